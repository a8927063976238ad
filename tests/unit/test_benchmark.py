import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from tests.unit.fake_contestant import FakeContestant, starter
from toolchain import benchmark, judging
from toolchain.bench_record import Benchmark, Candidate, Row
from toolchain.benchmark import Effort, settings_for
from toolchain.errors import BadUsage, CheckFailed, NotAvailable
from toolchain.samples import Samples

QUICK = Effort(min_rounds=4, min_runs=5, seconds=0, warm_up_s=0, max_time_s=0)
SAMPLES = Samples(inputs={"x": np.zeros((4, 3), np.float32)}, labels=np.arange(4), source="four rows")


def candidate(name: str, *, runtime: str = "ort", precision: str = "fp32") -> Candidate:
    return Candidate(label=name, runtime=runtime, precision=precision, model=name, sha256="0" * 64, size_bytes=1000)


def steady(milliseconds: float) -> Iterator[float]:
    return itertools.cycle([milliseconds])


def noisy(milliseconds: float, spread: float, seed: int) -> Iterator[float]:
    random = np.random.default_rng(seed)
    return iter(lambda: float(milliseconds * random.normal(1, spread)), None)


def measure(contestants: dict[str, FakeContestant], effort: Effort = QUICK, **kinds: str) -> Benchmark:
    return benchmark.run(
        [candidate(name, precision=kinds.get(name, "fp32")) for name in contestants],
        settings_for(["cpu"], [1], 1),
        SAMPLES,
        judge=judging.judge_with(SAMPLES),
        effort=effort,
        start=starter(contestants),
    )


def test_the_first_row_is_the_baseline_and_ratios_are_over_it() -> None:
    rows = measure({"slow": FakeContestant(steady(10)), "fast": FakeContestant(steady(2))}).rows
    assert rows[0].speedup is None
    assert rows[0].baseline == rows[1].baseline == "slow"
    assert rows[1].speedup is not None
    assert rows[1].speedup.estimate == pytest.approx(5)
    assert rows[1].latency_ms(50) == 2
    assert rows[1].throughput_per_s == 500
    assert all(len(row.rounds_ms) == 4 and len(row.rounds_ms[0]) == 5 for row in rows)


def test_rounds_go_on_until_the_interval_is_narrow() -> None:
    contestants = {"a": FakeContestant(noisy(10, 0.05, 0)), "b": FakeContestant(noisy(10, 0.05, 1))}
    rows = measure(contestants, Effort(min_rounds=3, min_runs=3, seconds=0, warm_up_s=0, precision=0.01)).rows
    assert len(rows[1].rounds_ms) > 3
    assert rows[1].speedup is not None
    assert rows[1].speedup.relative_width <= 0.01


def test_a_row_that_crashes_says_so_and_the_rest_goes_on() -> None:
    broken = FakeContestant(steady(1), fails_at="turn", turns=2)
    rows = measure({"a": FakeContestant(steady(3)), "broken": broken, "b": FakeContestant(steady(1))}).rows
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert rows[1].reason == "It broke. Mend it."
    assert rows[1].rounds_ms == ()
    assert broken.closed
    with pytest.raises(CheckFailed, match="broken"):
        judging.require_sound(Benchmark(machine={}, created="", data="", rows=rows))


@pytest.mark.parametrize("operation", ["open", "start"])
def test_a_row_that_cannot_start_is_closed(operation: str) -> None:
    broken = FakeContestant(steady(1), fails_at=operation)
    rows = measure({"a": FakeContestant(steady(3)), "broken": broken}).rows
    assert rows[1].status == "failed"
    assert broken.closed


def test_when_the_baseline_fails_the_next_row_takes_its_place() -> None:
    broken = FakeContestant(steady(1), fails_at="turn", turns=1)
    rows = measure({"broken": broken, "a": FakeContestant(steady(3)), "b": FakeContestant(steady(1))}).rows
    assert rows[2].baseline == "a"
    assert rows[2].speedup is not None
    assert rows[2].speedup.estimate == pytest.approx(3)


def test_a_fast_row_with_other_outputs_is_unproven() -> None:
    wrong = FakeContestant(steady(1), outputs=np.eye(4)[::-1])
    rows = measure({"a": FakeContestant(steady(3)), "wrong": wrong}).rows
    assert rows[1].status == "unproven"
    assert rows[1].accuracy is not None
    assert rows[1].accuracy.estimate == 0
    assert rows[1].speedup is not None


def test_nan_outputs_never_pass() -> None:
    rows = measure({"a": FakeContestant(steady(3)), "nan": FakeContestant(steady(1), outputs=np.full((4, 4), np.nan))})
    assert rows.rows[1].status == "unproven"


def test_a_provider_that_is_not_there_gives_unavailable_rows_and_nothing_starts() -> None:
    measured = benchmark.run(
        [candidate("a")],
        settings_for(["qnn"], [1], 1),
        SAMPLES,
        judge=judging.judge_with(SAMPLES),
        start=lambda *given, **more: pytest.fail("started"),
    )
    assert measured.rows[0].status == "unavailable"
    assert "QNNExecutionProvider" in measured.rows[0].reason
    with pytest.raises(NotAvailable):
        judging.require_sound(measured)


def test_a_fallback_found_by_the_worker_is_unavailable_too() -> None:
    row = measure({"a": FakeContestant(steady(1), fails_at="open", kind="ProviderUnavailable")}).rows[0]
    assert row.status == "unavailable"


def test_the_verdict_is_carried_to_other_batches() -> None:
    contestants = {"a": FakeContestant(steady(3)), "b": FakeContestant(steady(1), outputs=np.eye(4)[::-1])}
    measured = benchmark.run(
        [candidate("a"), candidate("b")],
        settings_for(["cpu"], [1, 8], 1),
        SAMPLES,
        judge=judging.judge_with(SAMPLES),
        effort=QUICK,
        start=starter(contestants),
    )
    found = {(row.candidate.label, row.setting.batch): row for row in measured.rows}
    assert found["b", 1].status == found["b", 8].status == "unproven"
    assert found["a", 1].accuracy == found["a", 8].accuracy


def test_json_gives_the_same_benchmark_back() -> None:
    measured = measure({"a": FakeContestant(steady(3)), "b": FakeContestant(steady(1), fails_at="open")})
    assert Benchmark.from_json(measured.to_json()).to_json() == measured.to_json()
    assert Benchmark.from_json(measured.to_json()).rows == measured.rows


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 99, "rows": []}', '{"schema_version": 1}'])
def test_another_json_is_refused(text: str) -> None:
    with pytest.raises(BadUsage):
        Benchmark.from_json(text)


@pytest.mark.parametrize(("batches", "threads"), [([0], 1), ([1, -2], 1), ([1], 0)])
def test_counts_below_one_are_refused(batches: list[int], threads: int) -> None:
    with pytest.raises(BadUsage):
        settings_for(["cpu"], batches, threads)


def test_rows_that_did_not_run_have_no_latency() -> None:
    row = Row(candidate=candidate("a"), setting=settings_for(["cpu"], [1], 1)[0], status="failed")
    assert row.latency_ms(50) is None
    assert row.throughput_per_s is None
