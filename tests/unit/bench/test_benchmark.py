import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.unit.bench.fake_contestant import FakeContestant, starter
from toolchain import machine
from toolchain.accuracy.status import Status
from toolchain.bench import benchmark, judging
from toolchain.bench.benchmark import Extras
from toolchain.bench.effort import Effort
from toolchain.bench.record import Benchmark, Candidate, Row, Setting
from toolchain.errors import BadUsage, CheckFailed, NotAvailable, Undecided
from toolchain.inputs.samples import Samples

QUICK = Effort(min_rounds=4, min_runs=5, seconds=0, warm_up_s=0, precision=1.0)
DEFAULT = Effort(seconds=0, warm_up_s=0)
"""The defaults; scripted contestants make ten runs a turn whatever the clock says."""
SAMPLES = Samples(inputs={"x": np.zeros((4, 3), np.float32)}, labels=np.arange(4), source="four rows")
ON_CPU = Setting(provider="cpu", batch=1, threads=1)


def candidate(name: str, *, runtime: str = "ort", precision: str = "fp32") -> Candidate:
    return Candidate(label=name, runtime=runtime, precision=precision, model=name, sha256="0" * 64, size_bytes=1000)


def steady(milliseconds: float) -> Iterator[float]:
    return itertools.cycle([milliseconds])


def noisy(milliseconds: float, spread: float, seed: int) -> Iterator[float]:
    random = np.random.default_rng(seed)
    return iter(lambda: float(milliseconds * random.normal(1, spread)), None)


def measure(
    contestants: dict[str, FakeContestant],
    effort: Effort = QUICK,
    *,
    settings: Sequence[Setting] = (ON_CPU,),
    extras: Extras | None = None,
    **more: Any,
) -> Benchmark:
    return benchmark.run(
        [candidate(name) for name in contestants],
        settings,
        SAMPLES,
        judge=judging.judge_with(SAMPLES),
        effort=effort,
        extras=extras,
        start=starter(contestants),
        **more,
    )


@pytest.fixture(autouse=True)
def _a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking how busy it is takes 0.2 s each time."""
    monkeypatch.setattr(machine, "busy_share", lambda: 0.0)


def test_the_first_row_is_the_baseline_and_ratios_are_over_it() -> None:
    rows = measure({"slow": FakeContestant(steady(10)), "fast": FakeContestant(steady(2))}).rows
    assert rows[0].speedup is None
    assert rows[0].baseline == rows[1].baseline == "slow on cpu"
    assert rows[1].speedup is not None
    assert rows[1].speedup.estimate == pytest.approx(5)
    assert rows[1].latency_ms(50) == 2
    assert rows[1].throughput_per_s == 500
    assert all(len(row.rounds_ms) == 4 and len(row.rounds_ms[0]) == 5 for row in rows)


def test_another_row_can_be_the_reference() -> None:
    contestants = {"slow": FakeContestant(steady(10)), "fast": FakeContestant(steady(2))}
    rows = measure(contestants, extras=Extras(reference="fast")).rows
    assert rows[0].baseline == "fast on cpu"
    assert rows[1].speedup is None
    assert rows[0].speedup is not None
    assert rows[0].speedup.estimate == pytest.approx(0.2)
    assert rows[0].parity == "exact"
    assert rows[1].parity is None


def test_rounds_go_on_until_the_interval_is_narrow() -> None:
    contestants = {"a": FakeContestant(noisy(10, 0.05, 0)), "b": FakeContestant(noisy(10, 0.05, 1))}
    rows = measure(contestants, Effort(min_rounds=3, min_runs=3, seconds=0, warm_up_s=0, precision=0.01)).rows
    assert len(rows[1].rounds_ms) > 3
    assert rows[1].speedup is not None
    assert rows[1].speedup.relative_width <= 0.01


def test_the_same_row_twice_differs_in_no_more_than_five_of_a_hundred_runs() -> None:
    differ = 0
    for seed in range(100):
        contestants = {
            "a": FakeContestant(noisy(10, 0.02, 2 * seed)),
            "b": FakeContestant(noisy(10, 0.02, 2 * seed + 1)),
        }
        speedup = measure(contestants, DEFAULT).rows[1].speedup
        assert speedup is not None
        differ += speedup.excludes(1.0)
    assert differ <= 5


def test_a_slow_down_of_three_percent_is_found() -> None:
    for seed in range(20):
        contestants = {
            "before": FakeContestant(noisy(10, 0.02, 2 * seed)),
            "after": FakeContestant(noisy(10.3, 0.02, 2 * seed + 1)),
        }
        speedup = measure(contestants, DEFAULT).rows[1].speedup
        assert speedup is not None
        assert speedup.high < 1


def test_the_noise_floor_is_the_baseline_once_more() -> None:
    contestants = {"a": FakeContestant(noisy(10, 0.02, 0)), "b": FakeContestant(steady(5))}
    rows = measure(contestants, DEFAULT, extras=Extras(noise_floor=True)).rows
    assert [row.name for row in rows] == ["a on cpu", "b on cpu", "a again on cpu"]
    assert rows[2].speedup is not None
    assert not rows[2].speedup.excludes(1.0)
    assert rows[2].accuracy is None


def test_turns_are_shorter_where_the_rounds_would_not_fit() -> None:
    effort = Effort(min_rounds=5, seconds=1.0, warm_up_s=0.0, max_time_s=10.0)
    assert effort.for_rows(2).seconds == 1.0
    assert effort.for_rows(4).seconds == 0.5


@pytest.mark.parametrize(
    "limits", [{"min_rounds": 0}, {"min_runs": -1}, {"precision": 0.0}, {"max_time_s": -1.0}, {"timeout_s": 0.0}]
)
def test_efforts_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(BadUsage):
        Effort(**limits)


def test_a_short_limit_leaves_two_rounds() -> None:
    effort = Effort(min_rounds=8, min_runs=5, seconds=0, warm_up_s=0, max_time_s=0)
    rows = measure({"a": FakeContestant(steady(3)), "b": FakeContestant(steady(1))}, effort).rows
    assert [len(row.rounds_ms) for row in rows] == [2, 2]


def test_a_row_that_crashes_says_so_and_the_rest_goes_on() -> None:
    broken = FakeContestant(steady(1), fails_at="turn", turns=2)
    rows = measure({"a": FakeContestant(steady(3)), "broken": broken, "b": FakeContestant(steady(1))}).rows
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert rows[1].reason == "It broke. Mend it."
    assert rows[1].rounds_ms == ()
    assert broken.closed
    with pytest.raises(CheckFailed, match="broken"):
        judging.require_sound(Benchmark(machine={}, created="", data="", rows=rows))


@pytest.mark.parametrize("operation", ["open", "start", "memory", "outputs"])
def test_a_row_that_cannot_start_or_answer_is_closed(operation: str) -> None:
    broken = FakeContestant(steady(1), fails_at=operation)
    rows = measure({"a": FakeContestant(steady(3)), "broken": broken}).rows
    assert rows[1].status == "failed"
    assert broken.closed


def test_when_the_baseline_fails_the_next_row_takes_its_place() -> None:
    broken = FakeContestant(steady(1), fails_at="turn", turns=1)
    rows = measure({"broken": broken, "a": FakeContestant(steady(3)), "b": FakeContestant(steady(1))}).rows
    assert rows[2].baseline == "a on cpu"
    assert rows[2].speedup is not None
    assert rows[2].speedup.estimate == pytest.approx(3)


def test_when_the_baseline_fails_at_its_outputs_all_is_compared_with_another() -> None:
    reversed_ = np.eye(4)[::-1]
    contestants = {
        "broken": FakeContestant(steady(10), fails_at="outputs"),
        "a": FakeContestant(steady(4), outputs=reversed_),
        "b": FakeContestant(steady(2), outputs=reversed_),
    }
    rows = measure(contestants).rows
    assert [row.status for row in rows] == ["failed", "ok", "ok"]
    assert {row.baseline for row in rows[1:]} == {"a on cpu"}
    assert rows[2].speedup is not None
    assert rows[2].speedup.estimate == pytest.approx(2)
    assert rows[2].parity == "exact"


def test_every_output_is_judged() -> None:
    same, other = np.eye(4), np.eye(4) + 5
    contestants = {
        "a": FakeContestant(steady(3), outputs=(same, same)), "b": FakeContestant(steady(1), outputs=(same, other)),
        "c": FakeContestant(steady(1), outputs=(same,)),
    }  # fmt: skip
    assert [row.status for row in measure(contestants).rows] == ["ok", "unproven", "unproven"]


def test_a_model_that_does_not_classify_fails_alone() -> None:
    contestants = {"a": FakeContestant(steady(3)), "map": FakeContestant(steady(1), outputs=np.zeros((4, 2, 2)))}
    rows = measure(contestants).rows
    assert [row.status for row in rows] == ["ok", "failed"]
    assert "class scores" in rows[1].reason


def test_a_fast_row_with_other_outputs_is_unproven() -> None:
    wrong = FakeContestant(steady(1), outputs=np.eye(4)[::-1])
    rows = measure({"a": FakeContestant(steady(3)), "wrong": wrong}).rows
    assert rows[1].status == "unproven"
    assert rows[1].accuracy is not None
    assert rows[1].accuracy.estimate == 0
    assert rows[1].drop is not None
    assert rows[1].drop.estimate == 1
    assert rows[1].speedup is not None


def test_too_few_samples_leave_a_loss_undecided() -> None:
    sure = 1 + np.eye(4) / 100
    contestants = {
        "float": FakeContestant(steady(3), outputs=sure), "int8": FakeContestant(steady(1), outputs=sure[[0, 1, 2, 2]])
    }  # fmt: skip
    measured = benchmark.run(
        [candidate("float"), candidate("int8", precision="int8-static")],
        [ON_CPU],
        SAMPLES,
        judge=judging.judge_with(SAMPLES),
        effort=QUICK,
        start=starter(contestants),
    )
    assert [row.status for row in measured.rows] == ["ok", "undecided"]
    assert "at most 2 is allowed" in measured.rows[1].reason
    with pytest.raises(Undecided, match="int8 on cpu"):
        judging.require_sound(measured)


def test_nan_outputs_never_pass() -> None:
    rows = measure({"a": FakeContestant(steady(3)), "nan": FakeContestant(steady(1), outputs=np.full((4, 4), np.nan))})
    assert rows.rows[1].status == "unproven"


def test_a_provider_that_is_not_there_gives_unavailable_rows_and_nothing_starts() -> None:
    measured = benchmark.run(
        [candidate("a")],
        [Setting(provider="qnn", batch=1, threads=1)],
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


def test_providers_side_by_side_are_compared_and_pytorch_has_only_the_rows_that_it_can_have() -> None:
    elsewhere = Setting(provider="openvino", batch=1, threads=1, python="/other/python")
    kinds = {"eager": candidate("eager", runtime="eager"), "file": candidate("file")}
    rows = benchmark.run(
        list(kinds.values()),
        [ON_CPU, elsewhere],
        SAMPLES,
        judge=judging.judge_with(SAMPLES),
        effort=QUICK,
        start=lambda job, spec, **limits: FakeContestant(steady(4 if spec["runtime"] == "eager" else 2)),
    ).rows
    assert [row.name for row in rows] == ["eager on cpu", "file on cpu", "file on openvino (/other/python)"]
    assert {row.baseline for row in rows} == {"eager on cpu"}
    assert rows[2].speedup is not None
    assert rows[2].speedup.estimate == pytest.approx(2)


def test_streams_are_compared_by_throughput() -> None:
    several = Setting(provider="cpu", batch=2, threads=1, concurrency=4)
    rows = measure({"a": FakeContestant(steady(10)), "b": FakeContestant(steady(5))}, settings=[several]).rows
    assert rows[0].throughput_per_s == pytest.approx(200)
    assert rows[1].speedup is not None
    assert rows[1].speedup.estimate == pytest.approx(2)


def test_the_verdict_is_carried_to_other_batches() -> None:
    contestants = {"a": FakeContestant(steady(3)), "b": FakeContestant(steady(1), outputs=np.eye(4)[::-1])}
    settings = [ON_CPU, Setting(provider="cpu", batch=8, threads=1)]
    measured = measure(contestants, settings=settings)
    found = {(row.candidate.label, row.setting.batch): row for row in measured.rows}
    assert found["b", 1].status == found["b", 8].status == "unproven"
    assert found["a", 1].accuracy == found["a", 8].accuracy


def test_a_row_is_judged_where_it_first_runs_and_never_against_another_baseline() -> None:
    large, small = Setting(provider="cpu", batch=8, threads=1), ON_CPU

    def start(job: str, spec: dict[str, Any], **limits: Any) -> FakeContestant:
        wrong = np.eye(4)[::-1]
        large_batch = spec["batch"] == 8
        if spec["model"] == "base":
            return FakeContestant(steady(9), fails_at="open" if large_batch else "")
        if spec["model"] == "a":
            return FakeContestant(steady(3), outputs=wrong)
        return FakeContestant(steady(1), outputs=wrong, fails_at="start" if large_batch else "")

    rows = benchmark.run(
        [candidate("base"), candidate("a"), candidate("b")],
        [small, large],
        SAMPLES,
        judge=judging.judge_with(SAMPLES),
        effort=QUICK,
        start=start,
    ).rows
    found = {(row.candidate.label, row.setting.batch): row.status for row in rows}
    assert found == {
        ("base", 1): "ok", ("a", 1): "unproven", ("b", 1): "unproven",
        ("base", 8): "failed", ("a", 8): "ok", ("b", 8): "failed",
    }  # fmt: skip
    assert [row.setting.batch for row in rows] == [1, 1, 1, 8, 8, 8]


def test_a_reference_that_did_not_run_is_said() -> None:
    contestants = {"a": FakeContestant(steady(3)), "b": FakeContestant(steady(1), fails_at="open")}
    warnings = measure(contestants, extras=Extras(reference="b")).warnings
    assert "'b' did not run at batch 1, 1 thread: there speed-ups are over a on cpu." in warnings


def test_rows_are_kept_while_the_rounds_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(benchmark, "_SHARE_FOR_KEEPING", 1e9)
    kept: list[Benchmark] = []
    measured = measure({"a": FakeContestant(steady(3)), "b": FakeContestant(steady(1))}, keep=kept.append)
    assert [len(each.rows[0].rounds_ms) for each in kept] == [1, 2, 3, 4, 4]
    assert kept[-1] == measured


def test_a_profile_or_why_there_is_none() -> None:
    node = {"name": "n", "op_type": "Conv", "provider": "cpu", "precision": "fp32", "mean_us": 1.0, "share": 1.0}
    profile = {
        "run_us": 1.0, "nodes": [node], "op_types": {"Conv": 1.0}, "copies": 0, "casts": 0, "unfused": [], "advice": "-"
    }  # fmt: skip
    contestants = {"a": FakeContestant(steady(1), profile=profile), "b": FakeContestant(steady(1))}
    rows = measure(contestants, extras=Extras(profile=True)).rows
    assert rows[0].profile is not None
    assert rows[0].profile.nodes[0].op_type == "Conv"
    assert rows[1].profile is None
    assert rows[1].facts["profile"] == "none: It is scripted."
    assert rows[1].status == "ok"


def test_json_gives_the_same_benchmark_back() -> None:
    measured = measure({"a": FakeContestant(steady(3)), "b": FakeContestant(steady(1), fails_at="open")})
    assert Benchmark.from_json(measured.to_json()).to_json() == measured.to_json()
    assert Benchmark.from_json(measured.to_json()).rows == measured.rows


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 99, "rows": []}', '{"schema_version": 2}'])
def test_another_json_is_refused(text: str) -> None:
    with pytest.raises(BadUsage):
        Benchmark.from_json(text)


def test_rows_that_did_not_run_have_no_latency() -> None:
    row = Row(candidate=candidate("a"), setting=ON_CPU, status=Status.FAILED)
    assert row.latency_ms(50) is None
    assert row.throughput_per_s is None
