"""What follows from a benchmark's rows: throughput with its interval, placement, which rows are worth having."""

import math
from collections.abc import Sequence

from runtimes.base import Placement
from runtimes.registry import short_name
from toolchain.accuracy.status import Status
from toolchain.bench import pareto
from toolchain.bench.record import Row
from toolchain.stats import Interval, percentile_interval


def throughput(row: Row) -> Interval:
    """Samples a second of a row that ran: at the median latency of one stream, the rounds' median of several."""
    if row.setting.concurrency > 1:
        return percentile_interval([[rate] for rate in row.rounds_per_s], 50)
    median = percentile_interval(row.rounds_ms, 50)
    per_s = row.setting.batch * 1e3
    return Interval(per_s / median.estimate, per_s / median.high, per_s / median.low if median.low > 0 else math.inf)


def provider_share(row: Row) -> float | None:
    """The share of the graph's nodes, 0 to 1, that the provider asked for took; None where it is not known."""
    return Placement({short_name(name): count for name, count in row.nodes.items()}).share(row.setting.provider)


def efficient(rows: Sequence[Row]) -> frozenset[int]:
    """The places of the rows that no other row in the same circumstances surely beats (:mod:`toolchain.bench.pareto`).

    None where a row had nothing to compete with."""
    found: set[int] = set()
    for circumstances in dict.fromkeys(row.setting.circumstances for row in rows):
        places = [place for place, row in enumerate(rows) if row.setting.circumstances == circumstances]
        names = pareto.efficient([rows[place] for place in places])
        if sum(is_proven(rows[place]) for place in places) > 1:
            found.update(place for place in places if rows[place].name in names)
    return frozenset(found)


def is_proven(row: Row) -> bool:
    """Whether the row ran on a real machine, passed, and is not the baseline once more."""
    return row.status is Status.OK and bool(row.rounds_ms) and not row.repeats and not row.emulated
