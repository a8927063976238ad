"""What a metric is: what one sample contributes, and the score that all of them come to."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.errors import BadUsage

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Outputs = Array | Mapping[str, Array]
"""What a model gave for N samples: an array ``(N, ...)``, or one by name where it has several outputs."""
Targets = Array | Sequence[Array] | Mapping[str, Any]
"""The right answers: ``(N, ...)`` of any type, N arrays of unequal shapes, or several of these by name."""
Rows = Sequence[Any] | Array
"""What each sample contributes, in their order: small, so that all of them can be kept."""
Counts = npt.NDArray[np.int64]
Scorer = Callable[[Counts], float]
"""The score where sample i counts ``(N,)`` so many times: once each, or as a bootstrap drew them."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a score is of, for those who tell it; ``title`` is what a sentence calls it.

    ``share`` says that it goes from 0 to 1 and is told in points of 100; others are in the targets' unit, or in none.
    """

    name: str
    title: str
    higher_is_better: bool = True
    share: bool = False

    def loss(self, reference: float, given: float) -> float:
        """What ``given`` is worse by: positive is worse, whichever way is better."""
        return reference - given if self.higher_is_better else given - reference

    def difference(self, value: float) -> str:
        """The digits of a loss, in points for a share."""
        return f"{100 * value:.2f}" if self.share else f"{value:.4g}"

    def value(self, score: float) -> str:
        """A score in words."""
        return f"{score:.2%}" if self.share else f"{score:.4g}"

    @property
    def unit(self) -> str:
        """What a difference is in, behind a blank; empty where the unit is the targets' own, or none."""
        return " points" if self.share else ""

    @property
    def worse(self) -> str:
        """What losing is called: a drop in accuracy, a rise in the mean absolute error."""
        return f"{'drop' if self.higher_is_better else 'rise'} in {self.title}"


@dataclass(frozen=True, kw_only=True)
class Metric(Measure):
    """``rows`` takes the outputs of some samples and their targets, ``scorer`` the rows of all.

    Both raise BadUsage for what they cannot judge. ``code`` is a digest of the user's own code, ``draws`` how many a
    bootstrap makes.
    """

    code: str = ""
    draws: int = 400
    rows: Callable[[Outputs, Targets], Rows] = field(repr=False)
    scorer: Callable[[Rows], Scorer] = field(repr=False)

    def score(self, rows: Rows) -> float:
        """Over all of ``rows``, at least one; BadUsage where it is undefined for them, as r2 is of equal targets."""
        return self.defined(self.scorer(rows)(np.ones(len(rows), np.int64)), len(rows))

    def of(self, outputs: Outputs, targets: Targets) -> float:
        """The score of outputs that are all at hand."""
        return self.score(self.rows(outputs, targets))

    def defined(self, score: float, samples: int) -> float:
        """``score``; BadUsage where it is no number."""
        if math.isfinite(score):
            return score
        raise BadUsage(
            f"The {self.title} of these {samples:,} samples is {score:g}: it is not defined for them.",
            "Give samples whose targets differ and say something, and outputs that are finite.",
        )

    @property
    def measure(self) -> Measure:
        """What of it goes into a record."""
        return Measure(**{each.name: getattr(self, each.name) for each in fields(Measure)})


@dataclass(frozen=True)
class Mean:
    """The score that is a mean of one number a sample ``(N,)``: it has an interval in closed form."""

    values: Floats

    def __call__(self, times: Counts) -> float:
        return float(times @ self.values / times.sum())


def means(rows: Rows) -> Scorer:
    """Of one number a sample."""
    return Mean(np.asarray(rows, np.float64).reshape(len(rows)))


def ratios(rows: Rows) -> Scorer:
    """Of two numbers a sample: the sum of the first over the sum of the second, 0 / 0 being no number.

    A mean where the second is the same for all.
    """
    table = np.asarray(rows, np.float64).reshape(len(rows), 2)
    if len(set(table[:, 1])) == 1 and table[0, 1]:
        return Mean(table[:, 0] / table[:, 1])

    def score(times: Counts) -> float:
        over, under = times @ table
        return float(over / under) if under else math.nan

    return score


def of_sums(finish: Callable[[Floats], float]) -> Callable[[Rows], Scorer]:
    """A scorer of rows that add up, arrays of one shape: ``finish`` makes the score of their sum."""

    def scorer(rows: Rows) -> Scorer:
        table = np.asarray(rows, np.float64)
        flat = table.reshape(len(table), -1)
        return lambda times: finish((times @ flat).reshape(table.shape[1:]))

    return scorer


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all calls: one array where each part is one of the same row shape, else a list."""
    if all(isinstance(part, np.ndarray) for part in parts) and len({np.shape(part)[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    return [row for part in parts for row in part]


def arrays(outputs: Outputs) -> Iterator[tuple[str, Array]]:
    """Each output by name, those that count no samples left out."""
    named = outputs.items() if isinstance(outputs, Mapping) else [("", outputs)]
    for name, value in named:
        array = np.asarray(value)
        if array.ndim:
            yield name, array


def misfit(name: str, wants: str, outputs: Outputs, targets: Targets) -> BadUsage:
    """The error about a metric that does not fit what the model gives, or what it is compared with."""
    gave = ", ".join(f"{each} {in_words(array)}".strip() for each, array in arrays(outputs)) or "no arrays"
    return BadUsage(
        f"{name} wants {wants}; the model gave {gave} for targets {in_words(targets)}.",
        "Choose another --metric, or write one that fits as file.py:function.",
    )


def in_words(targets: Any) -> str:
    """The type and the shape."""
    if isinstance(targets, Mapping):
        return "{" + ", ".join(f"{name}: {in_words(each)}" for name, each in targets.items()) + "}"
    if isinstance(targets, np.ndarray):
        kind = "text" if targets.dtype.kind in "US" else str(targets.dtype)
        return f"{kind}[{', '.join(map(str, targets.shape))}]"
    return f"{len(targets):,} arrays of unequal shapes"


def one_array(targets: Targets) -> Array | None:
    """Targets as one array where they are one, or arrays of one shape, as those of sentences of equal length are."""
    if isinstance(targets, np.ndarray):
        return targets
    if isinstance(targets, Mapping):
        return None
    each = [np.asarray(target) for target in targets]
    return np.stack(each) if len({array.shape for array in each}) == 1 else None
