"""Percentiles, intervals and ratios: pure functions of samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

_NORMAL_95 = 1.959964
# The 97.5 % points of Student's t for 1, 2, ... degrees of freedom; beyond the table the normal's will do.
_STUDENT_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval and the estimate inside it."""

    estimate: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        """Half the interval's width over the estimate."""
        return (self.high - self.low) / 2 / abs(self.estimate) if self.estimate else float("inf")

    def excludes(self, value: float) -> bool:
        return value < self.low or value > self.high


def percentile(samples: Sequence[float], q: float) -> float:
    """The ``q``-th percentile (0 to 100), linearly interpolated."""
    return float(np.percentile(np.asarray(samples, dtype=float), q))


def ratio_of_medians(numerator: Sequence[Sequence[float]], denominator: Sequence[Sequence[float]]) -> Interval:
    """How many times larger the numerator's median is, from rounds of samples measured in turns.

    Round ``i`` of one was measured beside round ``i`` of the other, so what disturbed a round disturbs both: each round
    gives one log ratio of medians, and the interval is Student's t interval of their mean (a paired t interval). One
    round gives no interval: its ends are infinite and 0.
    """
    if len(numerator) != len(denominator):
        raise ValueError(f"{len(numerator)} rounds against {len(denominator)}: they were not measured in turns")
    logs = np.log([np.median(above) / np.median(below) for above, below in zip(numerator, denominator, strict=True)])
    centre = float(np.mean(logs))
    if len(logs) < 2:
        return Interval(float(np.exp(centre)), 0.0, float("inf"))
    freedom = len(logs) - 1
    point = _STUDENT_95[freedom - 1] if freedom <= len(_STUDENT_95) else _NORMAL_95
    half = point * float(np.std(logs, ddof=1)) / float(np.sqrt(len(logs)))
    return Interval(float(np.exp(centre)), float(np.exp(centre - half)), float(np.exp(centre + half)))


def proportion(successes: int, total: int) -> Interval:
    """A share of ``total`` with its Wilson score interval (Wilson 1927)."""
    if total < 1:
        raise ValueError("a proportion needs at least one trial")
    share, squared = successes / total, _NORMAL_95**2
    centre = (share + squared / (2 * total)) / (1 + squared / total)
    half = _NORMAL_95 / (1 + squared / total) * float(np.sqrt(share * (1 - share) / total + squared / (4 * total**2)))
    # rounding must not push an end past the estimate at 0 and at 1
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def sqnr_db(reference: Array, given: Array) -> float:
    """Signal to quantization noise in decibels: 10 log10(sum r^2 / sum (r - g)^2); infinite when both are equal."""
    signal = float(np.sum(np.square(reference, dtype=float)))
    noise = float(np.sum(np.square(reference.astype(float) - given)))
    if noise == 0.0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")
