"""One output of numbers beside its reference: its infinities, its whole, its channels."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from toolchain.accuracy import channels as by_channel
from toolchain.accuracy.channels import Channel
from toolchain.accuracy.output_values import axis_before, lifted

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_LARGE = 1e3
_APART = 7
"""Powers of two without a value that part a mask's values (-1e4, -1e9, finfo.min) from an output's own."""


@dataclass(frozen=True)
class Numbers:
    """One output of all calls, ``wanted`` by the reference and ``got``, samples on axis 0.

    NaN at the same places are equal, and so are infinities. Values that are a hundredfold and more above all others, as
    a mask puts them into scores (-1e9), are compared by themselves, so that they hide nothing. ``batch`` is the axis
    that the samples had.
    """

    wanted: Sequence[Floats]
    got: Sequence[Floats]
    batch: int | None

    @classmethod
    def of(
        cls, reference: Sequence[Array], given: Sequence[Array], *, batch: int | None, whole_steps: bool = False
    ) -> "Numbers":
        """``whole_steps`` is for numbers that were rounded to whole ones: a difference of one is none."""
        wanted, got = ([np.asarray(lifted(a, batch), np.float64) for a in arrays] for arrays in (reference, given))
        if whole_steps:
            got = [w + np.sign(g - w) * np.maximum(np.abs(g - w) - 1, 0) for w, g in zip(wanted, got, strict=True)]
        return cls(wanted, got, batch)

    def __len__(self) -> int:
        """How many samples there are."""
        return sum(len(array) for array in self.wanted)

    def rows(self, chosen: slice) -> "Numbers":
        """Only these samples."""
        numbers = np.arange(len(self))[chosen]
        ends = np.cumsum([0, *(len(array) for array in self.wanted)])
        inside = [
            numbers[(numbers >= start) & (numbers < stop)] - start
            for start, stop in itertools.pairwise(ends)
        ]  # fmt: skip
        wanted, got = (
            [array[rows] for array, rows in zip(arrays, inside, strict=True) if len(rows)]
            for arrays in (self.wanted, self.got)
        )
        return Numbers(wanted, got, self.batch)

    @cached_property
    def broken(self) -> str:
        """What of NaN and infinities is not as in the reference; empty if nothing is."""
        total = sum(array.size for array in self.wanted)
        for what, test in (("NaN", np.isnan), ("infinite", np.isinf)):
            new = sum(int((test(g) & ~test(w)).sum()) for w, g in self._pairs)
            lost = sum(int((test(w) & ~test(g)).sum()) for w, g in self._pairs)
            if new:
                return f"is {what} at {new:,} of {total:,} places where the reference is not"
            if lost:
                return f"is not {what} at {lost:,} of {total:,} places where the reference is"
        turned = sum(int((np.isinf(w) & (w != g)).sum()) for w, g in self._pairs)
        return f"has the other infinity at {turned:,} of {total:,} places" if turned else ""

    @property
    def broken_samples(self) -> int:
        """How many samples have a NaN or infinity that the reference has not."""
        return sum(
            int((_odd(w, g).reshape(len(w), -1)).any(1).sum()) if w.size else 0 for w, g in self._pairs
        )  # fmt: skip

    @property
    def nothing_finite(self) -> bool:
        """Whether the reference gives nothing that could be compared, though it gives something."""
        return any(w.size for w in self.wanted) and not any(np.isfinite(w).any() for w in self.wanted)

    @cached_property
    def parts(self) -> Sequence[Sequence[Mask]]:
        """The places to compare in each call, those of a mask's large values apart from the others."""
        keep = [np.isfinite(w) & np.isfinite(g) for w, g in self._pairs]
        powers = sorted(set().union(*(_powers(w[mask]) for w, mask in zip(self.wanted, keep, strict=True))))
        for lower, upper in itertools.pairwise(powers):
            bound = math.ldexp(1.0, upper - 1)
            if upper - lower > _APART and bound >= _LARGE:
                large = [mask & (np.abs(w) >= bound) for w, mask in zip(self.wanted, keep, strict=True)]
                return [[mask & ~more for mask, more in zip(keep, large, strict=True)], large]
        return [keep]

    def samples(self, keep: Sequence[Mask]) -> tuple[Floats, Floats, Floats, Floats]:
        """Of each sample the sums of squares of reference, result and difference, and of the products of both."""
        sums: list[list[Floats]] = [[], [], [], []]
        for w, g, mask in zip(self.wanted, self.got, keep, strict=True):
            one, other = (np.where(mask, array, 0.0).reshape(len(w), math.prod(w.shape[1:])) for array in (w, g))
            for found, terms in zip(sums, (one * one, other * other, (one - other) ** 2, one * other), strict=True):
                found.append(terms.sum(1))
        first, second, third, fourth = (np.concatenate(found) for found in sums)
        return first, second, third, fourth

    @cached_property
    def sqnr_db(self) -> float:
        """Of the whole, around zero."""
        return min((self._sqnr(keep) for keep in self.parts), default=math.inf)

    def _sqnr(self, keep: Sequence[Mask]) -> float:
        signal, _, noise, _ = (float(sums.sum()) for sums in self.samples(keep))
        if not noise:
            return math.inf
        return 10 * math.log10(signal / noise) if signal else -math.inf

    @cached_property
    def largest(self) -> tuple[float, float]:
        """The largest difference, and the largest as a share of the largest magnitude among its like."""
        most = share = 0.0
        for keep in self.parts:
            kept = [(w[mask], g[mask]) for (w, g), mask in zip(self._pairs, keep, strict=True)]
            level = max((float(np.abs(w).max(initial=0)) for w, _ in kept), default=0.0)
            error = max((float(np.abs(w - g).max(initial=0)) for w, g in kept), default=0.0)
            most = max(most, error)
            share = max(share, error / level if level else (math.inf if error else 0.0))
        return most, share

    def channels(self, *, rounding: bool, real: bool = True) -> tuple[Channel, ...]:
        """All that have enough values to be judged, named by the output's own axes."""
        axes = by_channel.axes_of([array.shape for array in self.wanted])
        found: list[Channel] = []
        for keep in self.parts:
            if axes:
                found += by_channel.channels(self.wanted, self.got, keep, axes=axes, rounding=rounding, real=real)
            else:
                found += by_channel.single(self.wanted, self.got, keep, rounding=rounding, real=real)
        return tuple(replace(each, axis=axis_before(each.axis, self.batch)) if axes else each for each in found)

    @property
    def _pairs(self) -> Iterator[tuple[Floats, Floats]]:
        return zip(self.wanted, self.got, strict=True)


def _odd(wanted: Floats, got: Floats) -> Mask:
    odd: Mask = (np.isnan(wanted) != np.isnan(got)) | ((np.isinf(wanted) | np.isinf(got)) & (wanted != got))
    return odd & ~(np.isnan(wanted) & np.isnan(got))


def _powers(values: Floats) -> set[int]:
    """The powers of two of values that are not 0."""
    return set(np.unique(np.frexp(values[values != 0])[1]).tolist())
