"""Percentiles, intervals and ratios: pure functions of samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
_Floats = npt.NDArray[np.float64]

_NORMAL_95 = 1.959964
# Student's t by the level of a two-sided interval, for 1, 2, ... degrees of freedom.
_STUDENT = {
    0.95: (
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ),
    0.90: (
        6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753,
        1.746, 1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697,
    ),
}  # fmt: skip
_HALVINGS = 60


@dataclass(frozen=True)
class Interval:
    """A confidence interval, of 95 % unless its maker was told otherwise, and the estimate inside it."""

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
    half = _half_width(logs, 0.95)
    return Interval(float(np.exp(centre)), float(np.exp(centre - half)), float(np.exp(centre + half)))


def mean(samples: _Floats, level: float = 0.95) -> Interval:
    """The mean of ``samples`` ``(N,)`` with Student's t interval; one sample gives infinite ends. Levels: 0.9, 0.95."""
    centre = float(np.mean(samples))
    half = _half_width(samples, level) if len(samples) > 1 else math.inf
    return Interval(centre, centre - half, centre + half)


def _half_width(samples: _Floats, level: float) -> float:
    """Half of Student's t interval of the mean of two samples or more."""
    freedom, points = len(samples) - 1, _STUDENT[level]
    if freedom <= len(points):
        point = points[freedom - 1]
    else:  # Fisher's expansion to its first term: 0.003 short at 31, the normal's point 0.08
        normal = NormalDist().inv_cdf((1 + level) / 2)
        point = normal + (normal**3 + normal) / (4 * freedom)
    return point * float(np.std(samples, ddof=1)) / math.sqrt(len(samples))


def proportion(successes: int, total: int) -> Interval:
    """A share of ``total`` with its Wilson score interval (Wilson 1927)."""
    if total < 1:
        raise ValueError("a proportion needs at least one trial")
    share, squared = successes / total, _NORMAL_95**2
    centre = (share + squared / (2 * total)) / (1 + squared / total)
    half = _NORMAL_95 / (1 + squared / total) * float(np.sqrt(share * (1 - share) / total + squared / (4 * total**2)))
    # rounding must not push an end past the estimate at 0 and at 1
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def paired_drop(lost: int, gained: int, count: int, level: float = 0.95) -> Interval:
    """The share of ``count`` samples that one of two models loses against the other on the same samples.

    ``lost`` counts those that the reference had right and the new model wrong, ``gained`` the other way round; the
    drop is their difference over ``count``, -1 to 1. The interval is the score interval of Tango, Statistics in
    Medicine 17 (1998) 891: unlike Wald's it has a width when no sample is discordant, and stays within -1 and 1.
    """
    if lost < 0 or gained < 0 or count < max(1, lost + gained):
        raise ValueError(f"{lost} lost and {gained} gained of {count} are no paired counts")
    point = NormalDist().inv_cdf((1 + level) / 2)
    low, high = -_upper_end(gained, lost, count, point), _upper_end(lost, gained, count, point)
    return Interval((lost - gained) / count, low, high)


def paired_score(lost: int, gained: int, count: int, drop: float) -> float:
    """Tango's score statistic (his equation 24): how many standard errors the observed drop lies above ``drop``.

    The standard error is that under ``drop``, from the share of gained samples that is then the most likely: the root
    of 2n q^2 + b q + c = 0 below. It falls as ``drop`` rises, and grows with the root of ``count`` at constant shares.
    """
    excess = lost - gained - count * drop
    b = (2 * count - lost + gained) * drop - lost - gained
    c = -gained * drop * (1 - drop)
    root = math.sqrt(max(0.0, b * b - 8 * count * c))
    # the form that does not subtract numbers of the same size
    share = (root - b) / (4 * count) if b <= 0 else -2 * c / (root + b)
    variance = count * (2 * share + drop * (1 - drop))
    if variance <= 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)


def _upper_end(lost: int, gained: int, count: int, point: float) -> float:
    """The drop above the observed one whose score is -``point``, by bisection."""
    low, high = (lost - gained) / count, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if paired_score(lost, gained, count, middle) > -point:
            low = middle
        else:
            high = middle
    return high


def sqnr_db(reference: Array, given: Array) -> float:
    """Signal to quantization noise in decibels: 10 log10(sum r^2 / sum (r - g)^2); infinite when both are equal."""
    signal = float(np.sum(np.square(reference, dtype=float)))
    noise = float(np.sum(np.square(reference.astype(float) - given)))
    if noise == 0.0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def sqnr(reference: Array, given: Array, level: float = 0.95) -> Interval:
    """:func:`sqnr_db` of ``(N, ...)`` with an interval over the N samples; one sample gives infinite ends.

    The ratio of the mean noise to the mean signal is a ratio estimate, whose relative error is, to first order, the
    mean over samples of noise_i / mean noise - signal_i / mean signal (Cochran, Sampling Techniques, 6.3): Student's
    t interval of that mean, in decibels.
    """
    wanted = reference.reshape(len(reference), -1).astype(float)
    signal = np.square(wanted).sum(1)
    noise = np.square(wanted - given.reshape(len(given), -1)).sum(1)
    centre = sqnr_db(wanted, given.reshape(wanted.shape))
    if len(wanted) < 2:
        return Interval(centre, -math.inf, math.inf)
    if math.isinf(centre):
        return Interval(centre, centre, centre)
    half = 10 / math.log(10) * _half_width(noise / noise.mean() - signal / signal.mean(), level)
    return Interval(centre, centre - half, centre + half)
