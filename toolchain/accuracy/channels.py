"""Numbers beside numbers: as a whole, and each channel by its own range.

A difference is measured against a scale. Over a whole output that is its root mean square. But boxes in pixels beside
scores from 0 to 1 have 46 dB as a whole when every score is lost; so each channel of axis 1 and of the last axis is
measured too, by its own scale, and that is its spread, the standard deviation around its mean, so that a large offset
hides nothing. What hardly varies against its own noise floor has a scale all the same:

    noise (int8, int4)      no less than 1/50 of its range: 8 bits of a range leave a noise of 1/880 of it, and some
                            layers a few times that; a score that fires once in a thousand places has little spread
    rounding (fp16, ...)    no less than 1/10 of its largest magnitude, to which rounding errors are relative, and than
                            1/1000 of the output's (1/50 in fp32), in which it may have been a sum of its like
    probabilities           channels within 0 and 1 share a unit: no less than 3/10 of their common spread, so that the
                            column of a class that never comes up in a softmax need not be resolved
    more than 64 channels   those of like spread (no gap of ten between neighbours) share a scale, the common spread:
                            of so many some vary little by chance
    made-up values          the same of any number: a mean over an image of noise hardly moves, and how much a channel
                            varies on noise says little of what it does on real data
    a constant              1/10 of its magnitude, where errors are rounding no less than what holds for all; one of
                            zeros, 1/100 of the output's

Besides, a channel that varies in the reference and not in the other is lost, whatever its noise.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_FEWEST_VALUES = 8
"""A channel of fewer values has no spread to speak of."""
_MOST_CHANNELS = 65_536
_OF_RANGE = 1 / 50
_OF_LEVEL = 1 / 10
_OF_ZEROS = 1 / 100
_HARDLY_VARIES = 1e-4
_PROBABILITY_FLOOR = 0.3
_FEW_CHANNELS = 64
_GAP = 10.0
_CONSTANT = 0.01
_RESOLVED = 1 / 64
"""Of the widest range among comparable channels: two steps of 8 bits and a little, below which one may be flattened."""
_MOST_CHANCE_DB = 1.0
_ROUNDED = 1e-9


@dataclass(frozen=True)
class Channel:
    """What a channel of one axis came to: its signal to noise in dB by its own scale, and whether it became constant.

    ``correlation`` is that of its values, with a scale of the same kind.
    """

    axis: int
    index: int
    sqnr_db: float
    correlation: float
    values: int
    constant: bool

    def __str__(self) -> str:
        """Empty for all values of an output that has no channels."""
        return "" if self.axis < 0 else f"channel {self.index} of axis {self.axis}"

    def below(self, limit_db: float) -> bool:
        """Whether it is lost or under the limit, by more than the chance of few values explains."""
        return self.constant or self.sqnr_db < self.least_db(limit_db)

    def least_db(self, limit_db: float) -> float:
        """What it must reach where ``limit_db`` is asked for: less where it has few values."""
        return limit_db - self._chance_db

    def unlike(self, least: float) -> bool:
        """Whether it is lost, or its correlation is under ``least`` by more than chance; 0 asks for nothing."""
        if least <= 0:
            return False
        left = (1 - max(self.correlation, 0.0) ** 2) * 10 ** (-self._chance_db / 10)
        return self.constant or left > 1 - least**2 + _ROUNDED

    @property
    def _chance_db(self) -> float:
        """Two and a half deviations of a ratio of two powers, each from so many values, and 1 dB at most.

        With 2 dB files passed that held-back samples then found below 8 dB of the 10 asked for.
        """
        return min(_MOST_CHANCE_DB, 2.5 * (10 / math.log(10)) * math.sqrt(4 / self.values))


def channels(
    reference: Sequence[Array],
    given: Sequence[Array],
    keep: Sequence[Mask],
    *,
    axes: Sequence[int],
    rounding: float,
    real: bool = True,
) -> list[Channel]:
    """Every channel along each of ``axes`` whose values, over all calls, are enough to judge; ``keep`` masks them.

    ``rounding`` is the share of the whole output's level that no channel's scale is under, 0 where errors are noise.
    """
    found = []
    for axis in axes:
        sums = _Sums(reference[0].shape[axis])
        for wanted, got, mask in zip(reference, given, keep, strict=True):
            if wanted.size:
                sums.add(_rows(wanted, axis), _rows(got, axis), _rows(mask, axis))
        found += list(sums.channels(axis, rounding=rounding, real=real))
    return found


def single(
    reference: Sequence[Array], given: Sequence[Array], keep: Sequence[Mask], *, rounding: float, real: bool = True
) -> list[Channel]:
    """All values as one channel, if they are enough: of an output that has no other axis than that of the samples."""
    sums = _Sums(1)
    for wanted, got, mask in zip(reference, given, keep, strict=True):
        if wanted.size:
            sums.add(wanted.reshape(1, -1), got.reshape(1, -1), mask.reshape(1, -1))
    return list(sums.channels(-1, rounding=rounding, real=real))


def axes_of(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Axis 1 and the last one, axis 0 counting samples, where they have one length, not too large, in every call."""
    rank = len(shapes[0])
    if any(len(shape) != rank for shape in shapes):
        return []
    return [
        axis
        for axis in sorted({1, rank - 1})
        if 0 < axis < rank and len({shape[axis] for shape in shapes}) == 1 and 0 < shapes[0][axis] <= _MOST_CHANNELS
    ]


def _rows(array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


class _Sums:
    """Moments of each channel over the calls, around the first array's means, which keeps large offsets exact."""

    def __init__(self, count: int) -> None:
        self._pivot: Floats | None = None
        self.count, self._sum, self._square = np.zeros(count), np.zeros(count), np.zeros(count)
        self._given, self._given_square, self._product = np.zeros(count), np.zeros(count), np.zeros(count)
        self._error = np.zeros(count)
        self._least, self._most = np.full(count, np.inf), np.full(count, -np.inf)
        self._given_least, self._given_most = np.full(count, np.inf), np.full(count, -np.inf)

    def add(self, wanted: Array, got: Array, keep: Mask) -> None:
        """One call's values ``(C, n)``."""
        w, g = (np.where(keep, array.astype(np.float64), 0.0) for array in (wanted, got))
        here = keep.sum(1)
        if self._pivot is None:
            self._pivot = w.sum(1) / np.maximum(here, 1)
        self._least = np.minimum(self._least, np.where(keep, w, np.inf).min(1))
        self._most = np.maximum(self._most, np.where(keep, w, -np.inf).max(1))
        self._given_least = np.minimum(self._given_least, np.where(keep, g, np.inf).min(1))
        self._given_most = np.maximum(self._given_most, np.where(keep, g, -np.inf).max(1))
        self._error += np.square(w - g).sum(1)
        w, g = (np.where(keep, array - self._pivot[:, None], 0.0) for array in (w, g))
        self.count += here
        self._sum += w.sum(1)
        self._square += np.square(w).sum(1)
        self._given += g.sum(1)
        self._given_square += np.square(g).sum(1)
        self._product += (w * g).sum(1)

    @cached_property
    def _n(self) -> Floats:
        return np.maximum(self.count, 1)

    @cached_property
    def spread(self) -> Floats:
        found: Floats = np.sqrt(np.maximum(self._square / self._n - np.square(self._sum / self._n), 0))
        return found

    @cached_property
    def extent(self) -> Floats:
        return np.where(self.count > 0, self._most - self._least, 0.0)

    @cached_property
    def level(self) -> Floats:
        return np.where(self.count > 0, np.maximum(np.abs(self._most), np.abs(self._least)), 0.0)

    def channels(self, axis: int, *, rounding: float, real: bool) -> Iterator[Channel]:
        """Those of enough values."""
        group = self._groups(all_alike=not real)
        scale, noise = self._scales(group, rounding=rounding), np.sqrt(self._error / self._n)
        with np.errstate(divide="ignore", invalid="ignore"):
            sqnr = np.where(noise > 0, 20 * np.log10(scale / noise), np.inf)
            given_variance = np.maximum(self._given_square / self._n - np.square(self._given / self._n), 0)
            shared = self._product / self._n - self._sum * self._given / np.square(self._n)
            explained = np.where(given_variance > 0, np.square(shared) / given_variance, 0.0)
            left = np.maximum(np.square(self.spread) - explained, 0.0)  # what no line through the given values explains
            correlation = np.where(scale > 0, np.sqrt(np.maximum(1 - left / np.square(scale), 0)), 1.0)
            correlation = np.where(noise > 0, correlation, 1.0)
            correlation = np.where((shared < 0) & (self.spread >= scale), -correlation, correlation)
        constant = self._constant(group)
        for index in np.flatnonzero(self.count >= _FEWEST_VALUES):
            yield Channel(
                axis, int(index), float(sqnr[index]), float(correlation[index]), int(self.count[index]),
                bool(constant[index]),
            )  # fmt: skip

    def _scales(self, group: npt.NDArray[np.int64], *, rounding: float) -> Floats:
        spread, level = self.spread, self.level
        scale = np.maximum(spread, level * _OF_LEVEL if rounding else self.extent * _OF_RANGE)
        common = np.zeros_like(scale)
        for number in np.unique(group[group >= 0]):
            members = group == number
            share = _PROBABILITY_FLOOR if number == 0 else 1.0
            common[members] = share * np.sqrt(np.mean(np.square(spread[members])))
        whole = float(np.sqrt(np.mean(np.square(level)))) if len(level) else 0.0
        scale = np.maximum(scale, np.maximum(common, whole * rounding))
        still = self.extent <= _HARDLY_VARIES * level
        constant = np.where(
            level > 0, np.maximum(level * _OF_LEVEL, whole * rounding), whole * max(_OF_ZEROS, rounding)
        )
        return np.where(still, np.maximum(constant, common), scale)

    def _groups(self, *, all_alike: bool) -> npt.NDArray[np.int64]:
        """Channels that share a scale have one number, 0 for probabilities; the others have -1."""
        group = np.full(len(self.count), -1)
        seen = self.count > 0
        group[seen & (self._least >= 0) & (self._most <= 1)] = 0
        if len(group) <= _FEW_CHANNELS and not all_alike:
            return group
        others = np.flatnonzero(seen & (group < 0) & (self.spread > 0))
        ranked = others[np.argsort(self.spread[others])]
        number, before = 1, 0.0
        for index in ranked:
            number += bool(before) and self.spread[index] > _GAP * before
            group[index], before = number, float(self.spread[index])
        return group

    def _constant(self, group: npt.NDArray[np.int64]) -> Mask:
        """Which vary in the reference, so that 8 bits of what they are compared with would show it, and not here."""
        widest = self.extent.copy()
        for number in np.unique(group[group >= 0]):
            widest[group == number] = self.extent[group == number].max()
        varies = (self.extent > _HARDLY_VARIES * self.level) & (self.extent > _RESOLVED * widest)
        given = np.where(self.count > 0, self._given_most - self._given_least, 0.0)
        return (self.count >= _FEWEST_VALUES) & varies & (given < _CONSTANT * self.extent)
