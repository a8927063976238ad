"""From what a model gives to a decision for each target: scores of classes, class numbers, or one logit for yes or no.

Targets that are negative are no answer, as PyTorch's ``ignore_index`` -100 and paddings have it.
"""

from dataclasses import dataclass

import numpy as np

from toolchain.accuracy.metrics.metric import Array, Outputs, Targets, arrays, one_array

CUTS = (0.0, 0.5)
"""Where yes begins: of logits, and of probabilities. Which they are is told by all samples together."""


@dataclass(frozen=True)
class Choices:
    """``answers``, class numbers of ``classes`` for ``targets`` ``(N, ...)``; -1 where a score was NaN."""

    answers: Array
    targets: Array
    classes: int


@dataclass(frozen=True)
class Binary:
    """One number ``(N, ...)`` for each yes (1) or no (0) in ``targets``."""

    values: Array
    targets: Array

    @property
    def are_logits(self) -> Array:
        """``(N,)``: of which samples a value lies outside 0 and 1, as no probability does."""
        flat = self.values.reshape(len(self.values), -1)
        return np.asarray(((flat < 0) | (flat > 1)).any(1))

    def yes(self, cut: float) -> Array:
        """Where the answer is yes; NaN is a no."""
        found: Array = self.values > cut
        return found


def choices(outputs: Outputs, targets: Targets) -> Choices | None:
    """Of the first output that chooses one class for each target, by scores or by number; None where none does."""
    wanted = _whole(targets)
    if wanted is None:
        return None
    for _, array in arrays(outputs):
        axis = class_axis(array.shape, wanted.shape)
        if array.dtype.kind == "f" and axis is not None and array.shape[axis] > 1:
            answers = array.argmax(axis)
            broken = np.isnan(array.astype(np.float64, copy=False)).any(axis)
            return Choices(np.where(broken, -1, answers), wanted, array.shape[axis])
        if array.dtype.kind in "iu" and array.shape == wanted.shape:
            return Choices(array, wanted, int(max(array.max(initial=0), wanted.max(initial=0))) + 1)
    return None


def binary(outputs: Outputs, targets: Targets) -> Binary | None:
    """Of the first output with one number for each target, all of which are 0, 1, or no answer; None for others."""
    wanted = one_array(targets)
    if wanted is None or wanted.dtype.kind not in "iubf" or not np.isin(wanted[wanted >= 0], (0, 1)).all():
        return None
    for _, array in arrays(outputs):
        if array.dtype.kind not in "fb" or not array.size:
            continue
        if array.shape != wanted.shape and array.squeeze(1 if array.ndim > 1 and array.shape[1] == 1 else ()).shape == (
            wanted.shape
        ):
            array = array.reshape(wanted.shape)
        if array.shape == wanted.shape:
            return Binary(array.astype(np.float64), wanted.astype(np.int64))
    return None


def class_axis(scores: tuple[int, ...], targets: tuple[int, ...]) -> int | None:
    """Which axis of ``scores`` counts classes: the one more than ``targets`` has, 1 or the last; None without one.

    Where both would do, the last one of three axes, as in ``(N, T, K)``, else axis 1, as in ``(N, K, H, W)``.
    """
    rank = len(scores)
    for axis in (rank - 1, 1) if rank <= 3 else (1, rank - 1):
        if axis > 0 and (*scores[:axis], *scores[axis + 1 :]) == targets:
            return axis
    return None


def _whole(targets: Targets) -> Array | None:
    found = one_array(targets)
    return found if found is not None and found.dtype.kind in "iu" else None
