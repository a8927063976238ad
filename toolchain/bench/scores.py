"""How the score of a row is told: by its metric, which is top-1 accuracy where it names none."""

from collections.abc import Sequence

from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.metric import Measure
from toolchain.bench.record import Row
from toolchain.stats import shown_with_ends


def measure_of(rows: Sequence[Row]) -> Measure:
    """What ``rows`` are judged by: they were measured together, so by one metric."""
    return next((row.metric for row in rows if row.metric is not None), TOP1.measure)


def score(row: Row) -> str:
    """The score and the ends of its interval, which lie not evenly around it; empty where there is none."""
    found = row.accuracy
    if found is None:
        return ""
    if not measure_of([row]).share:
        return shown_with_ends(found)
    digits = 1 if (found.high - found.low) / 2 >= 0.001 else 2
    return f"{found.estimate:.{digits}%} ({found.low * 100:.{digits}f}–{found.high * 100:.{digits}f})"
