"""From what calibration saw of a tensor to the range that int8 covers: minmax, percentile, entropy, mse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from exporters.calibration.histogram import BINS, Histogram
from exporters.errors import BadOption

Method = Literal["mse", "minmax", "percentile", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)
DEFAULT_METHOD: Method = "mse"
DEFAULT_PERCENTILE = 99.99
_LEVELS = 255  # steps between the 256 values of int8
# What a side's range may shrink to, as shares of its extreme: in steps of 1 %, then, for tails that reach far, of 10 %.
_SHARES = np.concatenate([np.linspace(1.0, 0.5, 51), np.geomspace(0.45, 0.004, 46)])
_ENTROPY_LEVELS = 128
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """The real values that the integers cover; always with 0 inside."""

    low: float
    high: float


def range_of(
    seen: Histogram, *, method: Method, percentile: float = DEFAULT_PERCENTILE, symmetric: bool = False
) -> Range:
    """The range by ``method``; ``symmetric`` makes it the same on both sides of 0.

    minmax
        The smallest and the largest value.
    percentile
        Of the magnitudes: ``percentile`` % of all values lie within.
    entropy
        The symmetric range whose 128-level version has the smallest Kullback-Leibler divergence from the data
        (Migacz, "8-bit Inference with TensorRT", 2017).
    mse
        The range whose 256 levels have the smallest mean squared error: rounding inside, clipping outside.
    """
    if symmetric:
        seen = _mirrored(seen)
    found = {"minmax": _minmax, "percentile": _percentile(percentile), "entropy": _entropy, "mse": _mse}[method](seen)
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    return Range(low, high)


def _minmax(seen: Histogram) -> Range:
    return Range(seen.lowest, seen.highest)


def check_percentile(percentile: float) -> None:
    """Raise BadOption for a number that is no percentile."""
    if not 0 < percentile <= 100:
        raise BadOption(f"{percentile} is no percentile.", "Choose one above 0 and up to 100, such as 99.99.")


def _percentile(percentile: float) -> Callable[[Histogram], Range]:
    check_percentile(percentile)

    def of(seen: Histogram) -> Range:
        magnitudes = _magnitudes(seen)
        within = np.cumsum(magnitudes)
        edge = int(np.searchsorted(within, percentile / 100 * within[-1])) + 1
        return _clipped(seen, edge * seen.width)

    return of


def _mse(seen: Histogram) -> Range:
    """Each end in turn takes the best of its candidates while the other stands still, twice over."""
    filled = np.flatnonzero(seen.counts)
    if not len(filled):
        return Range(0.0, 0.0)
    values = (filled + 0.5 - BINS // 2) * seen.width
    # the bins at the ends hold the extremes themselves, which one value or a constant makes visible
    values = np.clip(values, seen.lowest, seen.highest)
    weights = seen.counts[filled].astype(np.float64)
    least, most = min(seen.lowest, 0.0), max(seen.highest, 0.0)
    low, high = least, most
    for _ in range(2):
        if most > 0:
            high = _best(values, weights, np.full_like(_SHARES, low), most * _SHARES)[1]
        if least < 0:
            low = _best(values, weights, least * _SHARES, np.full_like(_SHARES, high))[0]
    return Range(low, high)


def _best(values: Floats, weights: Floats, lows: Floats, highs: Floats) -> tuple[float, float]:
    """The (low, high) with the smallest squared error over ``values``; the widest of equals."""
    steps = np.maximum((highs - lows) / _LEVELS, np.finfo(np.float64).tiny)[:, None]
    zeros = np.round(-lows[:, None] / steps)
    levels = np.clip(np.round(values / steps) + zeros, 0, _LEVELS)
    errors = (((levels - zeros) * steps - values) ** 2) @ weights
    best = int(np.argmin(errors))
    return float(lows[best]), float(highs[best])


def _entropy(seen: Histogram) -> Range:
    magnitudes = _magnitudes(seen).astype(np.float64)
    used = int(np.flatnonzero(magnitudes)[-1]) + 1 if magnitudes.any() else 0
    best, edge = np.inf, used
    for end in range(_ENTROPY_LEVELS // 2, used + 1):
        inside = magnitudes[:end]
        divergence = _divergence(inside, magnitudes[end:used].sum())
        if divergence < best:
            best, edge = divergence, end
    return _clipped(seen, edge * seen.width)


def _divergence(inside: Floats, outside: float) -> float:
    """KL(p || q): p has the values beyond the range in its last bin, q is ``inside`` in half of the levels, spread."""
    p = inside.copy()
    p[-1] += outside
    groups = np.minimum(np.arange(len(inside)) * (_ENTROPY_LEVELS // 2) // len(inside), _ENTROPY_LEVELS // 2 - 1)
    filled = inside > 0
    sums = np.bincount(groups, weights=inside, minlength=_ENTROPY_LEVELS // 2)
    members = np.bincount(groups, weights=filled, minlength=_ENTROPY_LEVELS // 2)
    q = np.where(filled, (sums / np.maximum(members, 1))[groups], 0.0)
    if not p.sum() or not q.sum():
        return float("inf")
    p, q = p / p.sum(), np.maximum(q / q.sum(), 1e-12)
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / q[some])))


def _magnitudes(seen: Histogram) -> npt.NDArray[np.int64]:
    """``(BINS / 2,)``: how many values have a magnitude in each bin."""
    return seen.counts[BINS // 2 :] + seen.counts[: BINS // 2][::-1]


def _clipped(seen: Histogram, magnitude: float) -> Range:
    return Range(max(seen.lowest, -magnitude), min(seen.highest, magnitude))


def _mirrored(seen: Histogram) -> Histogram:
    """``seen`` with every value also on the other side of 0."""
    largest = max(-seen.lowest, seen.highest)
    return Histogram(seen.exponent, seen.counts + seen.counts[::-1], -largest, largest, seen.boundless)
