"""One criterion of the gate at a time: an interval against a limit, and how many samples would decide.

The intervals are two-sided at 90 %, so each end is a one-sided 95 % bound.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from toolchain import stats
from toolchain.accuracy.metrics import intervals
from toolchain.accuracy.metrics.metric import Metric, Rows
from toolchain.accuracy.status import Status
from toolchain.stats import Interval

LEVEL = 0.90
"""The two-sided level whose ends are one-sided 95 % bounds."""
_POINT = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Finding:
    """One criterion's answer."""

    status: Status
    text: str
    samples_needed: int | None


@dataclass(frozen=True)
class Drop:
    """What a model loses of a metric against its reference, from the rows of both; ``interval`` is at LEVEL."""

    metric: Metric
    reference: Rows
    given: Rows
    interval: Interval

    @staticmethod
    def of(metric: Metric, reference: Rows, given: Rows) -> "Drop":
        """Raises BadUsage where the metric is not defined for one of them."""
        return Drop(metric, reference, given, intervals.drop(metric, reference, given, LEVEL))

    def judged(self, limit: float, *, asked: bool) -> Finding:
        """Beside the ``limit``, infinity for none; where nobody ``asked`` what looks allowed passes."""
        drop, count = self.interval, len(self.reference)
        text = self._text(limit)
        if drop.high <= limit or (not asked and drop.estimate <= limit):
            return Finding(Status.OK, text, None)
        if drop.low > limit:
            return Finding(Status.UNPROVEN, text, None)
        if (pair := intervals.discordant(self.metric, self.reference, self.given)) is not None:
            return undecided(text, samples_needed(lost=pair[0], gained=pair[1], count=count, max_drop=limit))
        return undecided(text, _needed(drop, limit, count))

    def _text(self, limit: float) -> str:
        metric = self.metric
        shown = [metric.difference(value) for value in (self.interval.estimate, self.interval.low, self.interval.high)]
        if (pair := intervals.discordant(metric, self.reference, self.given)) is not None:
            more = f"{pair[0]:,} answers lost, {pair[1]:,} gained"
        else:
            more = "from {} to {}".format(*(metric.value(metric.score(rows)) for rows in (self.reference, self.given)))
        text = f"the {metric.worse} is {shown[0]}{metric.unit} (95 % bounds {shown[1]} and {shown[2]}; {more})"
        if math.isinf(limit):
            return f"{text}, of which nothing is required"
        return f"{text}, and at most {100 * limit if metric.share else limit:g} is allowed"


def floor(name: str, form: str, unit: str, value: Interval, limit: float, count: int) -> Finding:
    """What must not fall below ``limit``, told as ``form`` has its digits."""
    text = f"the {name} is {value.estimate:{form}}{unit}"
    if count > 1:
        text += f" (95 % bounds {value.low:{form}} and {value.high:{form}})"
    text += f", and at least {limit:g}{unit} is wanted"
    if value.low >= limit:
        return Finding(Status.OK, text, None)
    if value.high < limit:
        return Finding(Status.UNPROVEN, text, None)
    return undecided(text, _needed(value, limit, count))


def undecided(text: str, needed: int | None) -> Finding:
    """The finding that the samples are too few."""
    more = f"it would take about {needed:,} samples to tell" if needed else "these samples cannot tell"
    return Finding(Status.UNDECIDED, f"{text}: {more}", needed)


def samples_needed(*, lost: int, gained: int, count: int, max_drop: float) -> int | None:
    """How many samples decide about ``max_drop`` (a share) if the observed shares of lost and gained ones persist.

    The score at ``max_drop`` grows with the root of the count, so no search is needed. None when the observed drop is
    the limit itself, which no number decides.
    """
    if math.isclose((lost - gained) / count, max_drop, rel_tol=1e-9, abs_tol=1e-12):
        return None
    score = stats.paired_score(lost, gained, count, max_drop)
    return _round_up(count * (_POINT / score) ** 2)


def _needed(value: Interval, limit: float, count: int) -> int | None:
    """The same of an interval whose width falls with the root of the count."""
    gap, half = abs(value.estimate - limit), (value.high - value.low) / 2
    return _round_up(count * (half / gap) ** 2) if gap and count > 1 and math.isfinite(half) else None


def _round_up(number: float) -> int:
    """The next whole number, forgiving what rounding added to one."""
    return max(1, math.ceil(number * (1 - 1e-12)))
