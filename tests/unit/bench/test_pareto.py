import itertools
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.accuracy.status import Status
from toolchain.bench.pareto import efficient
from toolchain.bench.record import Candidate, Row, Setting
from toolchain.stats import Interval

SETTING = Setting(provider="cpu", batch=2, threads=1)
DRIFT = np.array([1.0, 1.4, 0.9, 1.2, 1.1])


def row(
    label: str, ms: float, size: int = 100, accuracy: float | None = None, *, noise: float = 0.0, **more: object
) -> Row:
    """A row whose rounds follow the drift that all rows share, with ``noise`` of its own; accuracy known to 1 point."""
    random = np.random.default_rng(len(label) + size)
    medians = ms * DRIFT * np.exp(random.normal(0, noise, len(DRIFT)))
    return Row(
        candidate=Candidate(label=label, runtime="ort", precision="fp32", model="", sha256="", size_bytes=size),
        setting=SETTING,
        rounds_ms=tuple((float(each), float(each)) for each in medians),
        accuracy=None if accuracy is None else Interval(accuracy, accuracy - 0.01, accuracy + 0.01),
        **more,  # type: ignore[arg-type]
    )


def labels(rows: list[Row]) -> set[str]:
    found = efficient(rows)
    return {row.candidate.label for row in rows if row.name in found}


def test_a_row_that_is_surely_slower_larger_and_worse_drops_out() -> None:
    assert labels([row("fp32", 4.0, 400, 0.95), row("int8", 1.0, 100, 0.90), row("bad", 5.0, 401, 0.80)]) == {
        "fp32", "int8",
    }  # fmt: skip


def test_drift_that_both_rows_saw_does_not_hide_which_is_faster() -> None:
    assert labels([row("a", 1.0), row("b", 1.05)]) == {"a"}


def test_latencies_that_do_not_separate_leave_both() -> None:
    assert labels([row("a", 1.0, noise=0.2), row("bb", 1.02, noise=0.2)]) == {"a", "bb"}


def test_accuracies_that_do_not_separate_leave_it_to_the_other_axes() -> None:
    assert labels([row("fp32", 4.0, 400, 0.950), row("int8", 1.0, 100, 0.945)]) == {"int8"}


def test_a_drop_on_the_same_samples_separates_what_accuracies_do_not() -> None:
    fp32 = row("fp32", 4.0, 400, 0.950, baseline="fp32 on cpu")
    int8 = row("int8", 1.0, 100, 0.945, baseline="fp32 on cpu", drop=Interval(0.005, 0.002, 0.008))
    assert labels([fp32, int8]) == {"fp32", "int8"}
    worse = row("int4", 1.0, 100, 0.945, baseline="fp32 on cpu", drop=Interval(0.02, 0.01, 0.03))
    assert labels([fp32, int8, worse]) == {"fp32", "int8"}
    assert labels([fp32, replace(int8, baseline="another")]) == {"int8"}


def test_one_axis_that_only_one_row_has_does_not_count() -> None:
    assert labels([row("a", 1.0, 100), row("b", 2.0, 200, 0.99)]) == {"a"}


def test_with_several_streams_throughput_counts_and_not_latency() -> None:
    streams = replace(SETTING, concurrency=4)
    times = (1.0, 1.01, 0.99, 1.0, 1.02)
    slow = replace(row("slow", 1.0), setting=streams, rounds_s=times, rounds_runs=(100,) * 5)
    fast = replace(row("fast", 3.0), setting=streams, rounds_s=times, rounds_runs=(200,) * 5)
    assert labels([slow, fast]) == {"fast"}


def test_rows_that_are_not_sound_neither_stand_nor_beat_others() -> None:
    wrong = row("wrong", 0.1, 1, 1.0, status=Status.UNPROVEN, reason="Its outputs differ.")
    again, idle = row("a", 0.1, 1, repeats=True), replace(row("idle", 0.1, 1), rounds_ms=())
    assert labels([row("b", 1.0), wrong, again, idle]) == {"b"}
    assert efficient([wrong]) == efficient([]) == frozenset()


def test_rounds_of_different_number_are_compared_as_they_are() -> None:
    short = row("short", 10.0)
    assert labels([row("a", 1.0), replace(short, rounds_ms=short.rounds_ms[:4])]) == {"a"}


def test_not_surely_better_does_not_carry_over() -> None:
    rows = [row("a", 1.0, 100, 0.90), row("bb", 1.0, 100, 0.915), row("ccc", 1.0, 100, 0.93)]
    assert labels(rows[:2]) == {"a", "bb"}
    assert labels(rows[1:]) == {"bb", "ccc"}
    assert labels(rows) == {"bb", "ccc"}


points = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
tables = st.lists(points, min_size=1, max_size=6)


def exact(table: list[tuple[int, int, int]]) -> list[Row]:
    """Rows known exactly: points differ by more than their intervals, or are equal."""
    return [row(f"row {index}", float(ms), size, points * 0.03) for index, (ms, size, points) in enumerate(table)]


@settings(max_examples=40)
@given(tables)
def test_what_is_known_exactly_gives_the_textbook_set(table: list[tuple[int, int, int]]) -> None:
    costs = [(ms, size, -points) for ms, size, points in table]
    beaten = {
        index
        for index, other in itertools.product(range(len(costs)), repeat=2)
        if costs[other] != costs[index] and all(a <= b for a, b in zip(costs[other], costs[index], strict=True))
    }
    assert labels(exact(table)) == {f"row {index}" for index in range(len(table)) if index not in beaten}


@settings(max_examples=40)
@given(tables, st.randoms())
def test_the_order_of_the_rows_does_not_matter(table: list[tuple[int, int, int]], random: object) -> None:
    rows = exact(table)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert efficient(shuffled) == efficient(rows)


@settings(max_examples=40)
@given(tables)
def test_a_dominated_row_changes_nothing_and_the_best_on_all_axes_is_alone(table: list[tuple[int, int, int]]) -> None:
    rows = exact(table)
    ms, size, accuracy = table[0]
    assert efficient([*rows, row("worse", ms + 1.0, size + 1, (accuracy - 1) * 0.03)]) == efficient(rows)
    assert labels([*rows, row("best", 0.5, 0, 0.9)]) == {"best"}
