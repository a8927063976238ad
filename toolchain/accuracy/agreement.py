"""Answers beside answers: class numbers, labels, indices, selections. They agree or do not; none is a magnitude."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolchain.stats import proportion

Array = npt.NDArray[np.generic]

LEAST = {"fp32": 0.999, "tf32": 0.98, "fp16": 0.98, "bf16": 0.9}
LEAST_BY_NOISE = 0.8
"""Of answers, the share that must agree: near ties fall the other way with the noise that the precision's rule allows
(a map of 21 classes at 30 dB keeps 97 to 99 % of its pixels). Of 21 scores that are all drawn alike, the worst case,
the largest stays the largest in 97 % at 30 dB, 90 % at 20 dB and 71 % at 10 dB, the least that numbers must have."""
LEAST_SELECTED = {"fp32": 0.99, "tf32": 0.9, "fp16": 0.9, "bf16": 0.7}
LEAST_SELECTED_BY_NOISE = 0.7
"""Of rows of numbers selected by a threshold or a rank. Where it lies in the middle of many scores, those near it move
across: of a selection of one in 10, 93 % is selected again at 20 dB and 98 % at 30 dB, of one in 100 88 and 97 %."""
LEAST_INDICES_BY_NOISE = 0.5
"""Of rows of indices: among candidates that are nearly the same, such as a detector's boxes of one object, another may
be the one that is selected, which is no other answer."""
_CLOSE = {"fp32": 1e-3, "tf32": 3e-2, "fp16": 3e-2, "bf16": 0.1}
_CLOSE_BY_NOISE = 0.3
"""How near a row of numbers lies to its counterpart, as a share of each column's spread."""
_RANKED = 256
"""Places of a ranking that are compared with each other."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many of ``total`` answers, or rows compared as sets (``rows``), are the same, and whether that is enough."""

    same: int
    total: int
    least: float
    rows: bool = False
    counts: tuple[int, int] | None = None

    @property
    def share(self) -> float:
        return self.same / self.total if self.total else 1.0

    @property
    def passed(self) -> bool:
        """Too few to tell are no reason to doubt: it fails when the share is surely too low."""
        return self.share >= self.least or (self.total > 0 and proportion(self.same, self.total).high >= self.least)

    def __str__(self) -> str:
        what = "rows, compared as sets," if self.rows else "values"
        other = f" ({self.counts[1]:,} of them for {self.counts[0]:,})" if self.counts else ""
        return f"{percent(self.share)} of {self.total:,} {what} agree{other}; at least {percent(self.least)}"


def exact(reference: Sequence[Array], given: Sequence[Array]) -> Agreement:
    """Of values into which nothing rounded goes: all."""
    return Agreement(same=_equal(reference, given), total=sum(array.size for array in reference), least=1.0)


def answers(reference: Sequence[Array], given: Sequence[Array], *, precision: str) -> Agreement:
    """Place by place."""
    least = LEAST.get(precision, LEAST_BY_NOISE)
    return Agreement(same=_equal(reference, given), total=sum(array.size for array in reference), least=least)


def rows(reference: Sequence[Array], given: Sequence[Array], *, axis: int, precision: str) -> Agreement:
    """Call by call as sets of rows, slices along ``axis``, whose number may differ.

    Rows of numbers have a counterpart where one is near in every column; the agreement is the lesser of the share of
    the reference's rows that have one and the share of the others'.
    """
    same = total = before = after = 0
    scale = _spread(reference, axis) * _CLOSE.get(precision, _CLOSE_BY_NOISE)
    for wanted, got in zip(reference, given, strict=True):
        w, g = (np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for array in (wanted, got))
        before, after, total = before + len(w), after + len(g), total + max(len(w), len(g))
        if len(w) and len(g):
            same += _near(w, g, scale) if w.dtype.kind == "f" else _shared(w, g)
    floats = all(array.dtype.kind == "f" for array in reference)
    least = LEAST_SELECTED.get(precision, LEAST_SELECTED_BY_NOISE if floats else LEAST_INDICES_BY_NOISE)
    return Agreement(
        same=same, total=total, least=least, rows=True, counts=(before, after) if before != after else None
    )


def are_rankings(arrays: Sequence[Array]) -> bool:
    """Whether each holds the same whole numbers in an order of its own: as sets they agree, whatever was ranked."""
    if len(arrays) < 2 or any(array.ndim != 1 or array.dtype.kind not in "iu" for array in arrays):
        return False
    members = np.unique(arrays[0])
    return len(members) > 1 and all(
        len(array) == len(members) and np.array_equal(np.sort(array), members) for array in arrays
    )


def order(reference: Sequence[Array], given: Sequence[Array], *, precision: str) -> Agreement:
    """Of pairs in each ranking, how many come in the same order: half of them do by chance."""
    same = total = 0
    for wanted, got in zip(reference, given, strict=True):
        total += _pairs(min(len(wanted), _RANKED))
        if np.array_equal(np.sort(got), np.sort(wanted)):
            places = np.argsort(got)[np.searchsorted(np.sort(got), wanted)]
            places = places[np.linspace(0, len(places) - 1, min(len(places), _RANKED)).astype(int)]
            same += int(np.triu(places[:, None] < places[None, :], 1).sum())
    return Agreement(same=same, total=total, least=LEAST.get(precision, LEAST_BY_NOISE))


def _pairs(count: int) -> int:
    return count * (count - 1) // 2


def differing_axis(shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> int | None:
    """The one axis on which the shapes of reference and result differ; None where they differ otherwise."""
    axes = set()
    for wanted, got in shapes:
        if len(wanted) != len(got):
            return None
        axes |= {axis for axis, pair in enumerate(zip(wanted, got, strict=True)) if pair[0] != pair[1]}
    return axes.pop() if len(axes) == 1 else None


def _equal(reference: Sequence[Array], given: Sequence[Array]) -> int:
    return sum(int((wanted == got).sum()) for wanted, got in zip(reference, given, strict=True))


def _spread(reference: Sequence[Array], axis: int) -> npt.NDArray[np.float64]:
    """Of each column over all calls; its magnitude where it does not vary."""
    if reference[0].dtype.kind != "f" or len({np.delete(array.shape, axis).tobytes() for array in reference}) > 1:
        return np.ones(1)
    lined = np.concatenate([np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for array in reference])
    if not len(lined):
        return np.ones(1)
    values = np.asarray(lined, np.float64)
    found: npt.NDArray[np.float64] = np.maximum(values.std(0), np.abs(values).max(0) * 1e-2)
    return np.where(found > 0, found, 1.0)


def _near(wanted: Array, got: Array, scale: npt.NDArray[np.float64]) -> int:
    from scipy.spatial import cKDTree  # 0.3 s to load, for selections only

    w, g = (np.nan_to_num(np.asarray(array, np.float64) / scale) for array in (wanted, got))
    found = cKDTree(g).query(w, p=np.inf, distance_upper_bound=1.0)[0]
    back = cKDTree(w).query(g, p=np.inf, distance_upper_bound=1.0)[0]
    return int(min(np.isfinite(found).sum(), np.isfinite(back).sum()))


def _shared(wanted: Array, got: Array) -> int:
    before, after = (Counter(map(tuple, array.tolist())) for array in (wanted, got))
    return (before & after).total()


def percent(share: float) -> str:
    """Never 100 % for less than all."""
    return "100%" if share == 1 else f"{min(100 * share, 99.999):.5g}%"
