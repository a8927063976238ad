"""Metrics of a choice among classes: top-1, top-5, F1."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolchain.accuracy.metrics.decisions import CUTS, Binary, Choices, binary, choices, class_axis
from toolchain.accuracy.metrics.metric import (
    Array,
    Counts,
    Floats,
    Metric,
    Outputs,
    Rows,
    Scorer,
    Targets,
    arrays,
    misfit,
    one_array,
    ratios,
)
from toolchain.errors import BadUsage
from toolchain.stats import Interval, proportion

_FIVE = 5


def right(scores: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Of which rows of ``scores`` ``(N, K)`` the largest entry is the label's; a row with NaN is never right.

    -inf is a score: that of an answer that is not allowed.
    """
    if scores.ndim != 2 or len(scores) != len(labels):
        raise BadUsage(
            f"Accuracy wants class scores (N, K) for {len(labels)} labels, the model gave {list(scores.shape)}.",
            "Leave the labels out for a model that does not classify.",
        )
    found: npt.NDArray[np.bool_] = (scores.argmax(1) == labels) & (scores.astype(np.float64) < np.inf).all(1)
    return found


def top1(scores: npt.NDArray[np.generic], labels: npt.NDArray[np.int64]) -> Interval:
    """The share of rows of ``scores`` that are :func:`right`, 0 to 1."""
    return proportion(int(right(scores, labels).sum()), len(labels))


def top1_metric() -> Metric:
    """The share of answers that are right: of all tokens or pixels where a sample has several."""
    return Metric(name="top1", title="accuracy", share=True, rows=_top1_rows, scorer=ratios)


def top5_metric() -> Metric:
    """The share of samples whose class is among the five highest scores, equal ones in the order of the classes."""
    return Metric(name="top5", title="top-5 accuracy", share=True, rows=_top5_rows, scorer=ratios)


def f1_metric() -> Metric:
    """2 TP / (2 TP + FP + FN) over all samples (van Rijsbergen 1979), as scikit-learn's ``f1_score`` has it.

    Of class 1 where there are two, or one logit; else the mean over the classes that come up (``macro``), or over the
    labels of a sample that has several.
    """
    return Metric(name="f1", title="F1", share=True, rows=_f1_rows, scorer=_f1_scorer)


def _top1_rows(outputs: Outputs, targets: Targets) -> Rows:
    """(How many are right, of how many) of each sample."""
    labels = one_array(targets)
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
        for _, array in arrays(outputs):
            if array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1 and len(array) == len(labels):
                _require_classes(labels, array.shape[1])
                return np.stack([right(array, labels), np.ones(len(labels))], 1).astype(np.float64)
    if (one := binary(outputs, targets)) is not None and one.values.ndim == 1:
        raise misfit("top1", "scores of two classes and more (f1 takes one logit)", outputs, targets)
    found = choices(outputs, targets)
    if found is None:
        raise misfit("top1", "class scores (N, K) or (N, T, K) for class numbers (N,) or (N, T)", outputs, targets)
    _require_classes(found.targets, found.classes)
    counted = found.targets >= 0
    same = counted & (found.answers == found.targets)
    return np.stack([each.reshape(len(each), -1).sum(1) for each in (same, counted)], 1).astype(np.float64)


def _top5_rows(outputs: Outputs, targets: Targets) -> Rows:
    labels = one_array(targets)
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
        for _, array in arrays(outputs):
            if class_axis(array.shape, labels.shape) == 1 and array.dtype.kind == "f" and array.shape[1] > _FIVE:
                _require_classes(labels, array.shape[1])
                scores = array.astype(np.float64)
                own = scores[np.arange(len(labels)), labels][:, None]
                before = np.arange(scores.shape[1]) < labels[:, None]
                ahead = (scores > own).sum(1) + ((scores == own) & before).sum(1)
                found = (ahead < _FIVE) & ~np.isnan(scores).any(1)
                return np.stack([found, np.ones(len(labels))], 1).astype(np.float64)
    raise misfit("top5", "scores (N, K) of more than five classes for class numbers (N,)", outputs, targets)


def _require_classes(labels: Array, classes: int) -> None:
    if labels.size and (labels.max() >= classes or (labels.ndim == 1 and labels.min() < 0)):
        raise BadUsage(
            f"The labels go from {labels.min()} to {labels.max()}, the model scores {classes} classes.",
            "Save them as class numbers that count from 0.",
        )


def _f1_rows(outputs: Outputs, targets: Targets) -> Rows:
    """Of each sample whole numbers ``(n, 3)``: answer, class, K; or what yes and no came to, see :func:`_counts`."""
    chosen = choices(outputs, targets)
    if chosen is not None:
        _require_classes(chosen.targets, chosen.classes)
        return _pairs(chosen)
    yes_or_no = binary(outputs, targets)
    if yes_or_no is None:
        raise misfit("f1", "class scores (N, K) for class numbers, or one number for each 0 or 1", outputs, targets)
    return _counts(yes_or_no)


def _pairs(chosen: Choices) -> list[npt.NDArray[np.int64]]:
    found = []
    for answers, wanted in zip(chosen.answers, chosen.targets, strict=True):
        counted = np.reshape(wanted >= 0, -1)
        sides = [np.reshape(side, -1)[counted].astype(np.int64) for side in (answers, wanted)]
        found.append(np.stack([*sides, np.full_like(sides[0], chosen.classes)], 1))
    return found


def _counts(found: Binary) -> list[Floats]:
    """Of each sample ``(7, L)``: outside 0 and 1; at each cut hits, false alarms and misses.

    The L labels of ``(N, L)`` are told apart, all else is one.
    """
    truth = (found.targets > 0).reshape(len(found.targets), -1)
    counted = (found.targets >= 0).reshape(truth.shape)
    rows = [np.broadcast_to(found.are_logits[:, None], truth.shape)]
    for cut in CUTS:
        yes = found.yes(cut).reshape(truth.shape)
        rows += [counted & yes & truth, counted & yes & ~truth, counted & ~yes & truth]
    table = np.stack(rows, 1)
    return list((table if found.targets.ndim <= 2 else table.sum(2, keepdims=True)).astype(np.float64))


def _f1_scorer(rows: Rows) -> Scorer:
    if rows[0].dtype.kind == "i":
        return _f1_of_pairs(rows)
    table = np.asarray(rows)
    hits, alarms, misses = (table[:, place] for place in cut_of(logits=bool(table[:, 0].any())))
    return lambda times: float(np.mean(_f1(times @ hits, times @ alarms, times @ misses)))


def cut_of(*, logits: bool) -> Sequence[int]:
    """Which of the three numbers at each cut count, the first standing at 1."""
    return range(1, 4) if logits else range(4, 7)


def _f1(hits: Array, alarms: Array, misses: Array) -> Floats:
    """0 where there is nothing to find and nothing was found, as scikit-learn has it by default."""
    under = 2 * hits + alarms + misses
    found: Floats = np.divide(2 * hits, under, out=np.zeros(under.shape), where=under > 0)
    return found


def _f1_of_pairs(rows: Rows) -> Scorer:
    lengths = np.array([len(row) for row in rows])
    answers, wanted, classes = np.concatenate(rows).T
    size = int(max(side.max(initial=0) for side in (answers + 1, wanted + 1, classes)))
    given = answers >= 0

    def score(times: Counts) -> float:
        weights = np.repeat(times, lengths).astype(np.float64)
        if not weights.sum():
            return math.nan
        both = np.bincount(wanted, weights * (answers == wanted), minlength=size)
        told = np.bincount(answers[given], weights[given], minlength=size)
        true = np.bincount(wanted, weights, minlength=size)
        found = _f1(both, told - both, true - both)
        return float(found[1]) if size == 2 else float(found[(told > 0) | (true > 0)].mean())

    return score
