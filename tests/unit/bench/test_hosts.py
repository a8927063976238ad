"""Rows of several machines in one bench: compared with their own, told apart; an emulated one never leads."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from tests.unit.bench.fake_contestant import FakeContestant
from tests.unit.bench.scripted_bench import MACHINE, candidate, setting
from toolchain.bench import benchmark, compare_table, report
from toolchain.bench.compare import compare, of_another_machine, require_no_slowdown
from toolchain.bench.csv_file import to_csv
from toolchain.bench.effort import Effort
from toolchain.bench.figures import efficient
from toolchain.bench.group import Contestant
from toolchain.bench.hosts import Look
from toolchain.bench.judgement import Judgement
from toolchain.bench.notes import notes
from toolchain.bench.record import Benchmark
from toolchain.errors import BadUsage
from toolchain.inputs.samples import Samples
from toolchain.processes.turns import JobFailed
from toolchain.shipping.recommending import rows_of

PI, ARM = "ssh://pi@one.local", "ssh://arm"
QUICK = Effort(min_rounds=5, min_runs=20, seconds=0.0, warm_up_s=0.0, max_time_s=5.0)
CALM = Look(busy=0.0, times=(0, 0, 0, 0, 0, 0, 0, 0), temperature_c=50.0, governors=("performance",), throttled="")
FIRST, SECOND = candidate("fp32", model="a", sha256="a" * 64), candidate("int8", model="b", sha256="b" * 64)
SAMPLES = Samples(inputs={"x": np.zeros((4, 2), np.float32)}, labels=None, source="noise")


def latencies(base: float) -> Iterator[float]:
    return cycle([base, base * 1.01, base * 0.99])


class FakeHost:
    """A machine whose rows take ``times`` as long as those of this one."""

    cores = 4

    def __init__(
        self, address: str, times: dict[str, float], emulated: str = "", *, before: Look = CALM, after: Look = CALM
    ) -> None:
        self.address, self._times, self._emulated, self._looks = address, times, emulated, (before, after)

    @property
    def machine(self) -> dict[str, Any]:
        return {**MACHINE, "architecture": "aarch64", "processor": "Cortex-A72", "emulated": self._emulated}

    def start(self, job: str, spec: dict[str, Any], **limits: Any) -> Contestant:
        base = self._times[spec["model"]]
        return Emulated(latencies(base)) if self._emulated else FakeContestant(latencies(base))

    def seen(self) -> tuple[Look, Look]:
        return self._looks


class Emulated(FakeContestant):
    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any:
        told = super().ask(operation, extra_s=extra_s, **arguments)
        if operation == "start":
            told["facts"]["emulated"] = "aarch64 on x86_64"
        return told


def here(job: str, spec: dict[str, Any], **limits: Any) -> Contestant:
    return FakeContestant(latencies({"a": 1.0, "b": 2.0, "digits": 4.0}[spec["model"]]))


def measured(*hosts: FakeHost, local: bool = True, start: Callable[..., Contestant] = here, **more: Any) -> Benchmark:
    places = [*([None] if local else []), *(host.address for host in hosts)]
    return benchmark.run(
        more.pop("candidates", [FIRST, SECOND]), [setting(host=place) for place in places], SAMPLES,
        judge=lambda *_: Judgement(parity="40 dB"), effort=QUICK, others={host.address: host for host in hosts},
        start=start, **more,
    )  # fmt: skip


def test_each_row_is_compared_with_those_of_its_own_machine() -> None:
    found = measured(FakeHost(PI, {"a": 10.0, "b": 5.0}))
    ratios = [row.speedup and round(row.speedup.estimate, 1) for row in found.rows]
    assert ratios == [None, 0.5, None, 2.0]
    assert [row.setting.host for row in found.rows] == [None, None, PI, PI]
    assert [found.machine_of(row)["processor"] for row in found.rows[1:3]][1] == "Cortex-A72"
    said = notes(found)
    assert "batch 1, 2 threads on local: the fastest is fp32." in said
    assert "batch 1, 2 threads on pi@one.local: the fastest is int8." in said
    assert any(line.startswith("pi@one.local: Cortex-A72, aarch64, 2 cores, 8.0 GiB") for line in said)
    assert "Speed-ups are over fp32 on cpu of the same host, with 95 % intervals." in said


def test_the_table_has_a_column_of_hosts_where_there_are_several() -> None:
    found = measured(FakeHost(PI, {"a": 10.0, "b": 5.0}), FakeHost(ARM, {"a": 1.0, "b": 5.0}, "aarch64 on x86_64"))
    table = report.table(found.rows)
    assert table.headings[:2] == ("row", "host")
    hosts = ["local", "local", "pi@one.local", "pi@one.local", "arm (emulated)", "arm (emulated)"]
    assert [line[1] for line in table.lines] == hosts
    assert "host" not in table.droppable
    alone = measured(FakeHost(PI, {"a": 10.0, "b": 5.0}), local=False)
    assert "host" not in report.table(alone.rows).headings
    assert "Each row: on pi@one.local, 2 threads." in notes(alone)
    assert to_csv(found).splitlines()[0].endswith(",host,emulated")
    assert to_csv(found).splitlines()[-1].endswith(f",{ARM},aarch64 on x86_64")
    assert ",host" not in to_csv(measured()).splitlines()[0]


def test_an_emulated_row_is_neither_the_fastest_nor_efficient_nor_recommended() -> None:
    found = measured(FakeHost(ARM, {"a": 10.0, "b": 0.001}, "aarch64 on x86_64"))
    marked = {found.rows[place].setting.host for place in efficient(found.rows)}
    assert marked == {None}
    assert not any("the fastest is int8" in line for line in notes(found))
    assert any("arm is emulated, aarch64 on x86_64" in line for line in notes(found))
    hashes = {"fp32": "a" * 64, "int8": "b" * 64}
    assert list(rows_of(found, hashes)) == ["fp32", "int8"]
    alone = measured(FakeHost(ARM, {"a": 10.0, "b": 0.001}, "aarch64 on x86_64"), local=False)
    assert rows_of(alone, hashes) == {}


def test_a_device_decides_which_variant_comes_first_before_this_machine_does() -> None:
    found = measured(FakeHost(PI, {"a": 10.0, "b": 5.0}))
    rows = rows_of(found, {"fp32": "a" * 64, "int8": "b" * 64})
    assert list(rows) == ["int8", "fp32"]
    assert {found.machine_of(row)["architecture"] for row in rows.values()} == {"aarch64"}


def test_pytorch_has_rows_here_alone() -> None:
    eager = candidate("eager", runtime="eager", model="digits")
    found = measured(FakeHost(PI, {"a": 10.0, "b": 5.0}), candidates=[eager, FIRST])
    assert [(row.candidate.label, row.setting.host) for row in found.rows] == [
        ("eager", None), ("fp32", None), ("fp32", PI),
    ]  # fmt: skip
    assert found.rows[-1].baseline == "fp32 on cpu"


def test_what_bends_the_figures_of_a_machine_is_said_of_that_machine() -> None:
    after = replace(CALM, busy=0.4, governors=("ondemand",), throttled="50005")
    said = measured(FakeHost(PI, {"a": 10.0, "b": 5.0}, after=after)).warnings
    assert any(line.startswith("On pi@one.local: Other programs use 40% of the processor") for line in said)
    assert any(line.startswith("pi@one.local lowered its clock (get_throttled 50005)") for line in said)
    assert any(line.startswith("pi@one.local has the governor ondemand") for line in said)
    times = {"a": 1.0, "b": 5.0}
    since = replace(CALM, throttled="50000")
    assert any("lowered its clock" in line for line in measured(FakeHost(PI, times, after=since)).warnings)
    earlier = FakeHost(PI, times, before=since, after=since)  # since its start, but not now, nor while it ran
    assert not any("lowered its clock" in line for line in measured(earlier).warnings)
    emulated = FakeHost(PI, {"a": 10.0, "b": 5.0}, "aarch64 on x86_64", after=after)
    assert not any("one.local" in line for line in measured(emulated).warnings)


def test_it_is_written_and_read_again() -> None:
    found = measured(FakeHost(PI, {"a": 10.0, "b": 5.0}))
    again = Benchmark.from_json(found.to_json())
    assert [row.setting.host for row in again.rows] == [None, None, PI, PI]
    assert again.hosts[PI]["processor"] == "Cortex-A72"
    assert '"host"' not in measured().to_json()


def test_the_gate_looks_at_the_machine_that_a_row_ran_on() -> None:
    old = measured(FakeHost(PI, {"a": 10.0, "b": 5.0}), local=False)
    new = measured(FakeHost(PI, {"a": 10.0, "b": 9.0}), local=False)
    elsewhere = replace(old, machine={**old.machine, "processor": "Another laptop"})
    assert of_another_machine(elsewhere.machines, new.machines, allowed=False) == ()
    other = replace(old, hosts={PI: {**old.hosts[PI], "processor": "Cortex-A76"}})
    with pytest.raises(BadUsage, match=r"pi@one.local: processor Cortex-A76 → Cortex-A72"):
        require_no_slowdown(compare(other, new))
    assert [change.verdict for change in compare(old, new).changes] == ["no difference shown", "slower"]
    both = compare(measured(FakeHost(PI, {"a": 1.0, "b": 2.0})), measured(FakeHost(PI, {"a": 1.0, "b": 2.0})))
    assert [line[1] for line in compare_table.table(both).lines] == ["local", "local", "pi@one.local", "pi@one.local"]
    assert "host" not in compare_table.table(compare(old, new)).headings


def test_a_machine_without_the_row_fails_it_alone() -> None:
    class Lost(FakeHost):
        def start(self, job: str, spec: dict[str, Any], **limits: Any) -> Contestant:
            raise JobFailed("lost", "The connection broke.", "Look at the network.")

    found = measured(Lost(PI, {}))
    assert [row.reason for row in found.rows] == ["", "", *["The connection broke. Look at the network."] * 2]
