"""Rows that are judged by another metric than accuracy: their table, their Pareto set."""

from dataclasses import replace

from tests.unit.bench.scripted_bench import timed
from toolchain.accuracy.metrics.built_in import BUILT_IN
from toolchain.bench import report
from toolchain.bench.pareto import efficient
from toolchain.bench.record import Row
from toolchain.bench.scores import measure_of, score
from toolchain.stats import Interval


def judged(label: str, ms: float, metric: str, value: float) -> Row:
    interval = Interval(value, value - 0.01, value + 0.01)
    return replace(timed(label, ms, None), accuracy=interval, drop=None, metric=BUILT_IN[metric]().measure)


def test_the_table_is_headed_by_the_metric() -> None:
    rows = [judged("a", 1.0, "mae", 0.5), judged("b", 2.0, "mae", 0.25)]
    found = report.table(rows)
    assert "mean absolute error" in found.headings
    assert "accuracy" not in found.headings
    assert measure_of(rows).name == "mae"
    assert score(rows[0]) == "0.50 (0.49 to 0.51)"
    assert score(judged("a", 1.0, "iou", 0.5)) == "50.0% (49.0–51.0)"


def test_less_is_better_where_the_metric_says_so() -> None:
    fast_and_worse, slow_and_better = judged("fast", 1.0, "mae", 0.5), judged("slow", 2.0, "mae", 0.2)
    both = {fast_and_worse.name, slow_and_better.name}
    assert efficient([fast_and_worse, slow_and_better]) == both
    beaten = judged("slow", 2.0, "mae", 0.9)
    assert efficient([fast_and_worse, beaten]) == {fast_and_worse.name}
