"""One output of numbers beside its reference: its infinities, its whole, its channels."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from toolchain.accuracy import channels as by_channel
from toolchain.accuracy.channels import Channel
from toolchain.accuracy.one_by_one import OneByOne
from toolchain.accuracy.output_values import axis_before, lifted

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_FEW_VALUES, _AT_ONCE = 2**18, 2**16
"""Outputs of so few are brought together to arrays of so many: numpy takes longer to begin than to add them up."""
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

        def got_at(call: int) -> Floats:
            found = np.asarray(lifted(given[call], batch), np.float64)
            if not whole_steps:
                return found
            difference = found - wanted[call]
            whole: Floats = wanted[call] + np.sign(difference) * np.maximum(np.abs(difference) - 1, 0)
            return whole

        wanted = OneByOne(len(reference), lambda call: np.asarray(lifted(reference[call], batch), np.float64))
        numbers = cls(wanted, OneByOne(len(given), got_at), batch)
        return numbers._in_few_arrays() if _are_few(reference) else numbers

    def _in_few_arrays(self) -> "Numbers":
        """The same, calls together that follow one another and differ in the number of samples alone."""
        runs: list[list[tuple[Floats, Floats]]] = []
        shape, size = None, 0
        for pair in self._pairs:
            if pair[0].shape[1:] != shape or size >= _AT_ONCE:
                runs.append([])
                shape, size = pair[0].shape[1:], 0
            runs[-1].append(pair)
            size += pair[0].size
        wanted, got = ([np.concatenate([pair[side] for pair in run]) for run in runs] for side in (0, 1))
        return Numbers(wanted, got, self.batch)

    def __len__(self) -> int:
        """How many samples there are."""
        return sum(self._lengths)

    @cached_property
    def _lengths(self) -> list[int]:
        return [len(array) for array in self.wanted]

    def rows(self, chosen: slice) -> "Numbers":
        """Only these samples."""
        if chosen == slice(None):
            return self
        numbers = np.arange(len(self))[chosen]
        ends = np.cumsum([0, *self._lengths])
        inside = [
            numbers[(numbers >= start) & (numbers < stop)] - start
            for start, stop in itertools.pairwise(ends)
        ]  # fmt: skip
        calls = [call for call, rows in enumerate(inside) if len(rows)]
        wanted, got = (
            OneByOne(len(calls), partial(lambda arrays, place: arrays[calls[place]][inside[calls[place]]], arrays))
            for arrays in (self.wanted, self.got)
        )
        return Numbers(wanted, got, self.batch)

    @cached_property
    def _oddities(self) -> "_Oddities":
        found = _Oddities()
        for wanted, got in self._pairs:
            found.add(wanted, got)
        return found

    @property
    def broken(self) -> str:
        """What of NaN and infinities is not as in the reference; empty if nothing is."""
        found = self._oddities
        for what in ("NaN", "infinite"):
            if new := found.new[what]:
                return f"is {what} at {new:,} of {found.values:,} places where the reference is not"
            if lost := found.lost[what]:
                return f"is not {what} at {lost:,} of {found.values:,} places where the reference is"
        return f"has the other infinity at {found.turned:,} of {found.values:,} places" if found.turned else ""

    @property
    def broken_samples(self) -> int:
        """How many samples have a NaN or infinity that the reference has not."""
        return self._oddities.samples

    @property
    def nothing_finite(self) -> bool:
        """Whether the reference gives nothing that could be compared, though it gives something."""
        return self._oddities.values > 0 and not self._oddities.finite

    @property
    def reference_has_nan(self) -> bool:
        """Whether the reference is NaN anywhere."""
        return self._oddities.reference_nan

    @cached_property
    def parts(self) -> Sequence[Sequence[Mask]]:
        """The places to compare in each call, those of a mask's large values apart from the others."""
        found: set[int] = set()
        for wanted, got in self._pairs:
            found |= _powers(wanted[np.isfinite(wanted) & np.isfinite(got)])
        for lower, upper in itertools.pairwise(sorted(found)):
            bound = math.ldexp(1.0, upper - 1)
            if upper - lower > _APART and bound >= _LARGE:
                return [self._masks(0.0, bound), self._masks(bound, math.inf)]
        return [self._masks(0.0, math.inf)]

    def _masks(self, least: float, below: float) -> Sequence[Mask]:
        """Where both are finite, and the reference's magnitude is ``least`` and more, and ``below`` that."""

        def at(call: int) -> Mask:
            wanted, got = self.wanted[call], self.got[call]
            size = np.abs(wanted)
            mask: Mask = np.isfinite(wanted) & np.isfinite(got) & (size >= least) & (size < below)
            return mask

        return OneByOne(len(self.wanted), at)

    def samples(self, keep: Sequence[Mask]) -> tuple[Floats, Floats, Floats, Floats]:
        """Of each sample the sums of squares of reference, result and difference, and of the products of both."""
        if id(keep) not in self._sums:
            self._sums[id(keep)] = self._summed(keep)
        return self._sums[id(keep)]

    @cached_property
    def _sums(self) -> dict[int, tuple[Floats, Floats, Floats, Floats]]:
        """By one of ``parts``, which live as long as these numbers do."""
        return {}

    def _summed(self, keep: Sequence[Mask]) -> tuple[Floats, Floats, Floats, Floats]:
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
            level = error = 0.0
            for wanted, got, mask in zip(self.wanted, self.got, keep, strict=True):
                w, g = wanted[mask], got[mask]
                level = max(level, float(np.abs(w).max(initial=0)))
                error = max(error, float(np.abs(w - g).max(initial=0)))
            most = max(most, error)
            share = max(share, error / level if level else (math.inf if error else 0.0))
        return most, share

    def channels(self, *, rounding: float, real: bool = True) -> tuple[Channel, ...]:
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


def _are_few(arrays: Sequence[Array]) -> bool:
    """Whether all values are few enough to stay in memory; stops reading where they are not."""
    total = 0
    for array in arrays:
        total += array.size
        if total > _FEW_VALUES:
            return False
    return True


@dataclass
class _Oddities:
    """What of NaN and infinities the calls so far have, in the result and not in the reference or the other way."""

    values: int = 0
    samples: int = 0
    turned: int = 0
    finite: bool = False
    reference_nan: bool = False
    new: dict[str, int] = field(default_factory=lambda: {"NaN": 0, "infinite": 0})
    lost: dict[str, int] = field(default_factory=lambda: {"NaN": 0, "infinite": 0})

    def add(self, wanted: Floats, got: Floats) -> None:
        self.values += wanted.size
        self.finite |= bool(np.isfinite(wanted).any())
        self.reference_nan |= bool(np.isnan(wanted).any())
        if wanted.size:
            self.samples += int(_odd(wanted, got).reshape(len(wanted), -1).any(1).sum())
        for what, test in (("NaN", np.isnan), ("infinite", np.isinf)):
            self.new[what] += int((test(got) & ~test(wanted)).sum())
            self.lost[what] += int((test(wanted) & ~test(got)).sum())
        self.turned += int((np.isinf(wanted) & (wanted != got)).sum())


def _odd(wanted: Floats, got: Floats) -> Mask:
    odd: Mask = (np.isnan(wanted) != np.isnan(got)) | ((np.isinf(wanted) | np.isinf(got)) & (wanted != got))
    return odd & ~(np.isnan(wanted) & np.isnan(got))


def _powers(values: Floats) -> set[int]:
    """The powers of two of values that are not 0."""
    return set(np.unique(np.frexp(values[values != 0])[1]).tolist())
