"""What makes a benchmark's figures worse than they look, and what to do about it: plain sentences."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from toolchain import machine
from toolchain.bench.effort import Effort
from toolchain.bench.record import Row
from toolchain.stats import Interval, percentile, ratio_of_medians, shown_ratio

_BUSY_SHARE = 0.1
_STEAL_SHARE = 0.02
_SPREAD = 0.05
_SLOW_START = 1.05
_DRIFT = 0.03
_DRIFT_SCORE = 2.44
_ROUNDS_FOR_A_TREND = 5
_RUNS_FOR_A_START = 10
_CLOCK_COUNTS_MS = 1e-3
_SMALL_DIFFERENCE = 0.03
_LONGEST_ADVISED_S = 3600.0
_HOPELESS = 0.5
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Given:
    """Which options the user gave: advice does not name what was done already."""

    cpus: bool = False
    threads: bool = False
    max_time: bool = False
    precision: bool = False
    noise_floor: bool = False


def warnings(
    rows: Sequence[Row],
    *,
    given: Given,
    busy: float,
    steal: float,
    effort: Effort | None = None,
    cores: int | None = None,
) -> list[str]:
    """At most one sentence or two about each thing that is wrong, the rows named.

    ``busy`` is the share of the processor that other programs used, ``steal`` that which the host of a virtual machine
    gave to others, both 0 to 1. ``effort`` is how long was measured; ``cores`` are those that this process may use.
    """
    timed = [row for row in rows if row.rounds_ms]
    effort = effort or Effort()
    drifts = _drifts(timed)
    return [
        *_neighbours(busy, steal, given),
        *_too_many_threads(timed, cores or machine.usable_cores(), given),
        *_drift(drifts, timed),
        *_slow_start(timed, effort),
        *_spread([row for row, drift in zip(timed, drifts, strict=True) if not drift], given),
        *_imprecise(timed, effort, given),
        *_noise_floor(timed),
        *_small_differences(timed, given),
        *_clock(timed),
    ]


def noise_floor(rows: Sequence[Row]) -> Interval | None:
    """The speed-up of a baseline over itself, the one farthest from 1 if there are several; None if not measured."""
    ratios = [row.speedup for row in rows if row.repeats and row.speedup is not None]
    return max(ratios, key=_from_one, default=None)


def _from_one(ratio: Interval) -> float:
    """How far from 1 the interval reaches."""
    return max(abs(1 - ratio.low), abs(ratio.high - 1))


def _neighbours(busy: float, steal: float, given: Given) -> Iterable[str]:
    if busy > _BUSY_SHARE:
        pin = "" if given.cpus else ", or keep the rows away from them with --cpus"
        yield (
            f"Other programs use {busy:.0%} of the processor, so latencies are too high and uneven. Stop them{pin}, "
            "then run it again."
        )
    if steal > _STEAL_SHARE:
        yield (
            f"The host of this virtual machine gave {steal:.0%} of its processor time to others: trust the ratios more "
            "than the latencies, and run it again at a quieter time."
        )


def _too_many_threads(rows: Sequence[Row], cores: int, given: Given) -> Iterable[str]:
    crowded = [row for row in rows if row.setting.threads > (len(row.setting.cpus) or cores)]
    if crowded:
        usable = min(len(row.setting.cpus) or cores for row in crowded)
        what = "Lower --threads to" if given.threads else "Give --threads"
        yield f"There are more threads than the {usable} cores they may use: {_named(crowded, rows)}. {what} {usable}."


def _drifts(rows: Sequence[Row]) -> list[float]:
    """For each row by which share latencies rose all along in its circumstances, below 0 if they fell, 0 if neither."""
    found = {}
    for circumstances in dict.fromkeys(row.setting.circumstances for row in rows):
        group = [row for row in rows if row.setting.circumstances == circumstances]
        count = min(len(row.rounds_ms) for row in group)
        change = _trend(np.mean([logs[:count] - np.median(logs) for logs in map(_log_medians, group)], axis=0))
        found[circumstances] = change if abs(change) > _DRIFT else 0.0
    return [found[row.setting.circumstances] for row in rows]


def _trend(levels: npt.NDArray[np.float64]) -> float:
    """By which share the level changed from the first round to the last, 0 where it may be chance.

    Judged by Mann and Kendall's score: how many more pairs of rounds rise than fall. Beyond 2.44 of its standard
    deviations it is chance in less than 1 % either way, at 5 rounds too (all must rise: 1 in 120); on scripted noise
    without a trend 1.0 to 1.8 % of runs have one. The change is by the slope of Theil and Sen, all pairs' median.
    """
    count = len(levels)
    if count < _ROUNDS_FOR_A_TREND:
        return 0.0
    first, second = np.triu_indices(count, 1)
    steps = levels[second] - levels[first]
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    if abs(float(np.sign(steps).sum())) <= _DRIFT_SCORE * deviation:
        return 0.0
    return math.expm1(float(np.median(steps / (second - first))) * (count - 1))


def _drift(drifts: Sequence[float], rows: Sequence[Row]) -> Iterable[str]:
    rising = [row for row, change in zip(rows, drifts, strict=True) if change > 0]
    falling = [row for row, change in zip(rows, drifts, strict=True) if change < 0]
    if rising:
        yield (
            f"Latencies rose by {max(drifts):.0%} from the first round to the last: {_named(rising, rows)}. The "
            "processor grew hot, most likely, and lowered its clock: let it cool down, or cool it better. Ratios hold."
        )
    if falling:
        yield (
            f"Latencies fell by {-min(drifts):.0%} from the first round to the last: {_named(falling, rows)}. "
            "Something else was still running, or the clock was still rising: run it again. Ratios hold."
        )


def _slow_start(rows: Sequence[Row], effort: Effort) -> Iterable[str]:
    starts = [(row, ratio) for row in rows if (ratio := _start(row)) is not None and ratio.low > _SLOW_START]
    if not starts:
        return
    slow, most = [row for row, _ in starts], max(ratio.estimate for _, ratio in starts)
    circumstances = [row.setting.circumstances for row in rows]
    shortened = any(
        effort.for_rows(circumstances.count(row.setting.circumstances)).warm_up_s < effort.warm_up_s for row in slow
    )
    advice = (
        "A longer --max-time warms up longer before each turn"
        if shortened
        else "The processor wakes up late: let it run at a fixed clock (`cpupower frequency-set -g performance`)"
    )
    yield f"The first runs of a turn take {_percent(most - 1)} longer than the rest: {_named(slow, rows)}. {advice}."


def _start(row: Row) -> Interval | None:
    """The first tenth of each turn's runs over its second half; None where streams mix or runs are few."""
    blocks = [block for block in row.rounds_ms if len(block) >= _RUNS_FOR_A_START]
    if row.setting.concurrency > 1 or not blocks:
        return None
    return ratio_of_medians(
        [block[: len(block) // 10] for block in blocks], [block[len(block) // 2 :] for block in blocks]
    )


def _spread(rows: Sequence[Row], given: Given) -> Iterable[str]:
    spreads = [(row, float(np.std(_log_medians(row), ddof=1))) for row in rows if len(row.rounds_ms) > 1]
    uneven = [row for row, spread in spreads if spread > _SPREAD]
    if uneven:
        most = max(spread for _, spread in spreads)
        pin = "" if given.cpus else ", or pin the rows with --cpus"
        yield (
            f"From round to round latencies vary by {most:.0%}: {_named(uneven, rows)}. "
            f"Stop other programs{pin}, then run it again."
        )


def _imprecise(rows: Sequence[Row], effort: Effort, given: Given) -> Iterable[str]:
    widths = [(row, row.speedup.relative_width) for row in rows if row.speedup is not None]
    wide = [row for row, width in widths if width > effort.precision]
    if not wide:
        return
    worst = max(width for _, width in widths)
    if math.isinf(worst):
        yield f"One round gives no interval: {_named(wide, rows)}. Give a longer --max-time."
        return
    yield (
        f"Speed-ups are known to {_percent(worst)}, not to the {_percent(effort.precision)} asked for: "
        f"{_named(wide, rows)}. {_more_time(worst, effort, given)}"
    )


def _more_time(width: float, effort: Effort, given: Given) -> str:
    """How long it would take, as the width falls with the root of the time."""
    needed = effort.max_time_s * (width / effort.precision) ** 2
    looser = f"--precision {math.ceil(round(width * 100, 6))}%"
    if width > _HOPELESS:
        return "Quiet the machine, then run it again."
    if not 0 < needed <= _LONGEST_ADVISED_S:
        return f"More time alone will not do: quiet the machine, or be content with {looser}."
    time = f"Give about --max-time {max(1, math.ceil(float(f'{needed:.2g}')))}s"
    return f"{time}, or be content with {looser}." if given.precision else f"{time}."


def _noise_floor(rows: Sequence[Row]) -> Iterable[str]:
    floor = noise_floor(rows)
    if floor is None or not math.isfinite(_from_one(floor)):
        return
    why = "two processes of one model differ surely, so" if floor.excludes(1.0) else "so"
    yield (
        f"The baseline came to {shown_ratio(floor)} over itself: {why} differences under {_percent(_from_one(floor))} "
        "cannot be told here today."
    )


def _small_differences(rows: Sequence[Row], given: Given) -> Iterable[str]:
    """Differences that are sure by their intervals and yet smaller than what the machine makes of nothing."""
    sure = [row for row in rows if row.speedup is not None and row.speedup.excludes(1.0) and not row.repeats]
    floor = noise_floor(rows)
    limit = _SMALL_DIFFERENCE if floor is None else _from_one(floor)
    small = [row for row in sure if row.speedup is not None and abs(row.speedup.estimate - 1) < limit]
    if small and floor is not None:
        yield f"Not to be told from the baseline, although their intervals leave out 1: {_named(small, rows)}."
    elif small and not given.noise_floor:
        yield (
            f"Within {_percent(limit)} of the baseline: {_named(small, rows)}. --noise-floor shows whether so little "
            "can be told here."
        )


def _clock(rows: Sequence[Row]) -> Iterable[str]:
    fast = [row for row in rows if percentile(list(chain(*row.rounds_ms)), 50) < _CLOCK_COUNTS_MS]
    if fast:
        yield (
            f"A run takes less than a microsecond, in which reading the clock counts: {_named(fast, rows)}. Give a "
            "larger --batch."
        )


def _log_medians(row: Row) -> npt.NDArray[np.float64]:
    return np.log([float(np.median(block)) for block in row.rounds_ms])


def _named(which: Iterable[Row], among: Sequence[Row]) -> str:
    """The rows' names, three at most; with their circumstances where there are several."""
    several = len({row.setting.circumstances for row in among}) > 1
    names = [f"{row.name}, {row.setting.circumstances}" if several else row.name for row in which]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more


def _percent(share: float) -> str:
    """With two digits, from 100 on with all."""
    return f"{share * 100:.2g}%" if share < 1 else f"{share:.0%}"
