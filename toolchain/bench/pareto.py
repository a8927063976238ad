"""Which rows are worth having: no other is surely better in accuracy, latency or size and surely worse in none."""

from collections.abc import Callable, Sequence

from toolchain.accuracy.status import Status
from toolchain.bench.record import Row
from toolchain.stats import Interval, ratio_of_medians, ratio_of_unpaired_medians

_NOTHING_LOST = Interval(0.0, 0.0, 0.0)


def efficient(rows: Sequence[Row]) -> frozenset[str]:
    """The names of those of ``rows``, all in the same circumstances, that none of the others dominates.

    A row dominates another when it is surely better on at least one axis and surely worse on none. Axes are latency
    (throughput where several streams run), accuracy where both rows have one, or their metric's score, and size. Surely
    means that the 95 % intervals separate: of the ratio of latencies, from the rounds in which both took turns, and of
    the accuracies, or of what each loses against the same baseline on the same samples. Sizes are exact.

    Rows that are not ok, repeat another, were not timed, or ran under emulation are neither efficient nor do they
    dominate. "Not surely better" does not carry over: with 90, 92 and 94 % known to 1.5 points the first is level with
    the second, the second with the third, and the first surely worse than the third. So a row may drop out for one that
    is not efficient itself, and a better measurement may change the set.
    """
    timed = [row for row in rows if row.status is Status.OK and row.rounds_ms and not (row.repeats or row.emulated)]
    return frozenset(row.name for row in timed if not any(_dominates(other, row) for other in timed))


def _dominates(row: Row, other: Row) -> bool:
    axes: list[Callable[[Row, Row], bool]] = [_surely_smaller, _surely_faster, _surely_more_accurate]
    return any(better(row, other) for better in axes) and not any(better(other, row) for better in axes)


def _surely_smaller(row: Row, other: Row) -> bool:
    return row.candidate.size_bytes < other.candidate.size_bytes


def _surely_faster(row: Row, other: Row) -> bool:
    if row.setting.concurrency > 1:
        slower, faster = ([[rate] for rate in each.rounds_per_s] for each in (row, other))
    else:
        slower, faster = ([list(block) for block in each.rounds_ms] for each in (other, row))
    if not slower or not faster:
        return False
    # rounds pair up unless the rows come from different files
    compare = ratio_of_medians if len(slower) == len(faster) else ratio_of_unpaired_medians
    return compare(slower, faster).low > 1


def _surely_more_accurate(row: Row, other: Row) -> bool:
    lost, others = _drop(row), _drop(other)
    if lost is not None and others is not None and (row.baseline, row.metric) == (other.baseline, other.metric):
        return lost.high < others.low
    if row.accuracy is None or other.accuracy is None or row.metric != other.metric:
        return False
    if row.metric is not None and not row.metric.higher_is_better:
        return row.accuracy.high < other.accuracy.low
    return row.accuracy.low > other.accuracy.high


def _drop(row: Row) -> Interval | None:
    """What the row loses against its baseline; the baseline itself loses nothing, exactly."""
    return _NOTHING_LOST if row.baseline == row.name else row.drop
