"""The metric of a class for each pixel: mean intersection over union."""

import math

import numpy as np

from toolchain.accuracy.metrics.classes import cut_of
from toolchain.accuracy.metrics.decisions import CUTS, Binary, Choices, binary, choices
from toolchain.accuracy.metrics.metric import (
    Array,
    Counts,
    Floats,
    Metric,
    Outputs,
    Rows,
    Scorer,
    Targets,
    misfit,
    one_array,
)

_VOID = 255
"""What Pascal VOC and Cityscapes write where a pixel is of no class."""


def iou_metric() -> Metric:
    """Hits / (hits + false alarms + misses) of each class over the pixels of all samples, and its mean over classes.

    The mean IoU of Pascal VOC's segmentation (Everingham et al. 2010, 4.2). Of one logit for yes and no that of yes;
    classes that neither come up nor are answered do not count; pixels that are negative or 255 are no class.
    """
    return Metric(name="iou", title="mean IoU", share=True, rows=_rows, scorer=_scorer)


def _rows(outputs: Outputs, targets: Targets) -> Rows:
    """Of each sample ``(2, K)`` intersections and unions as whole numbers, or ``(7,)`` of yes and no at each cut."""
    targets = _without_void(targets)
    chosen = choices(outputs, targets)
    if chosen is not None:
        return _of_classes(chosen)
    found = binary(outputs, targets)
    if found is None:
        raise misfit("iou", "scores (N, K, H, W) or class numbers for targets (N, H, W)", outputs, targets)
    return _of_yes(found)


def _without_void(targets: Targets) -> Targets:
    wanted = one_array(targets)
    if wanted is None or wanted.dtype.kind not in "iu":
        return targets
    return np.where(wanted == _VOID, -1, wanted.astype(np.int64))


def _of_classes(chosen: Choices) -> list[Array]:
    rows = []
    for answers, wanted in zip(chosen.answers, chosen.targets, strict=True):
        counted = wanted >= 0
        given, true = answers[counted], wanted[counted]
        size = max(chosen.classes, int(true.max(initial=0)) + 1)
        both = np.bincount(true[given == true], minlength=size)
        told = np.bincount(given[given >= 0], minlength=size)
        rows.append(np.stack([both, told + np.bincount(true, minlength=size) - both]))
    return rows


def _of_yes(found: Binary) -> list[Floats]:
    truth = (found.targets > 0).reshape(len(found.targets), -1)
    counted = (found.targets >= 0).reshape(truth.shape)
    rows = [found.are_logits.astype(np.int64)]
    for cut in CUTS:
        yes = found.yes(cut).reshape(truth.shape)
        rows += [(counted & mask).sum(1) for mask in (yes & truth, yes & ~truth, ~yes & truth)]
    return list(np.stack(rows, 1).astype(np.float64))


def _scorer(rows: Rows) -> Scorer:
    if rows[0].ndim == 1:
        table = np.asarray(rows)
        hits, *rest = (table[:, place] for place in cut_of(logits=bool(table[:, 0].any())))
        unions = hits + rest[0] + rest[1]
        return lambda times: float(times @ hits / (times @ unions)) if times @ unions else math.nan
    size = max(row.shape[1] for row in rows)
    table = np.zeros((len(rows), 2, size))
    for number, row in enumerate(rows):
        table[number, :, : row.shape[1]] = row

    def score(times: Counts) -> float:
        both, union = (times @ table.reshape(len(table), -1)).reshape(2, size)
        seen = union > 0
        return float((both[seen] / union[seen]).mean()) if seen.any() else math.nan

    return score
