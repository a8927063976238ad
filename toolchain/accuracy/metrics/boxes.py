"""The metric of detected boxes: mean average precision at an IoU of 0.5."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.accuracy.metrics.metric import Array, Counts, Floats, Metric, Outputs, Rows, Scorer, Targets, misfit

_IOU = 0.5
_MOST = 100
"""Detections of an image that count, the surest, as COCO's evaluation has it."""
_RECALLS = np.linspace(0, 1, 101)
_WANTS = "boxes (N, M, 4) with scores and labels (N, M), or one array (N, M, 6)"


def map50_metric() -> Metric:
    """The mean over classes of the average precision at IoU 0.5, as COCO's evaluation computes AP50.

    Outputs are ``(N, M, 6)`` of x1, y1, x2, y2, score and class, or ``boxes``, ``scores`` and ``labels`` by name;
    targets ``(N, G, 5)`` of x1, y1, x2, y2 and class, or ``boxes`` and ``labels``; those of a negative class are
    padding. Precision is interpolated at 101 recalls (pycocotools). Not defined where there is no box at all.
    """
    return Metric(name="map50", title="mAP at IoU 0.5", share=True, rows=_rows, scorer=_scorer)


@dataclass(frozen=True)
class _Image:
    """``found`` ``(M, 3)``: score, class, whether it hit; ``wanted`` ``(G,)`` classes."""

    found: Floats
    wanted: npt.NDArray[np.int64]


def _rows(outputs: Outputs, targets: Targets) -> Rows:
    detections, truths = _detections(outputs), _truths(targets)
    if detections is None or truths is None or len(detections) != len(truths):
        raise misfit("map50", _WANTS, outputs, targets)
    return [_image(*each) for each in zip(detections, truths, strict=True)]


def _detections(outputs: Outputs) -> list[Floats] | None:
    """``(M, 6)`` of each image."""
    if isinstance(outputs, Mapping):
        named = {name.rpartition(".")[2].lower(): value for name, value in outputs.items()}
        if {"boxes", "scores", "labels"} <= set(named):
            boxes = _stacked(named["boxes"], 4)
            numbers = [[np.reshape(row, -1) for row in named[name]] for name in ("scores", "labels")]
            if boxes is None or any(len(each) != len(boxes) for each in numbers):
                return None
            return [
                np.column_stack([box, score, label]).astype(np.float64)
                for box, score, label in zip(boxes, *numbers, strict=True)
                if len(box) == len(score) == len(label)
            ]
    each = outputs.values() if isinstance(outputs, Mapping) else [outputs]
    return next((found for value in each if (found := _stacked(value, 6)) is not None), None)


def _truths(targets: Targets) -> list[Floats] | None:
    """``(G, 5)`` of each image, without padding."""
    rows: list[Floats] | None
    if isinstance(targets, Mapping):
        if not {"boxes", "labels"} <= set(targets):
            return None
        boxes, labels = _stacked(targets["boxes"], 4), [np.reshape(row, -1) for row in targets["labels"]]
        if boxes is None or len(boxes) != len(labels):
            return None
        rows = [np.column_stack(pair).astype(np.float64) for pair in zip(boxes, labels, strict=True)]
    else:
        rows = _stacked(targets, 5)
    return None if rows is None else [row[row[:, -1] >= 0] for row in rows]


def _stacked(value: Any, width: int) -> list[Floats] | None:
    """Each image's rows of ``width`` numbers; None where they are not that."""
    found = [np.asarray(row) for row in value]
    if any(row.ndim != 2 or row.shape[1] != width or row.dtype.kind not in "fiu" for row in found):
        return None
    return [row.astype(np.float64) for row in found]


def _image(detections: Floats, truths: Floats) -> _Image:
    """Each detection in the order of the scores takes the free box of its class that it covers best."""
    detections = detections[(detections[:, 5] >= 0) & ~np.isnan(detections).any(1)]
    order = np.argsort(-detections[:, 4], kind="stable")[:_MOST]
    detections = detections[order]
    overlaps = _overlaps(detections[:, :4], truths[:, :4])
    overlaps[detections[:, 5][:, None] != truths[None, :, 4]] = 0.0
    hits = np.zeros(len(detections))
    for number, row in enumerate(overlaps):
        if len(row) and row.max() >= _IOU:
            hits[number] = 1.0
            overlaps[number + 1 :, int(row.argmax())] = 0.0
    return _Image(np.column_stack([detections[:, 4], detections[:, 5], hits]), truths[:, 4].astype(np.int64))


def _overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union ``(M, G)``."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - both
    found: Floats = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return found


def _scorer(rows: Rows) -> Scorer:
    """The detections of each class are put in the order of their scores once; draws only weigh them."""
    classes = np.unique(np.concatenate([image.wanted for image in rows])).tolist()
    images = np.repeat(np.arange(len(rows)), [len(image.found) for image in rows])
    found = np.concatenate([image.found for image in rows])
    ready: list[tuple[Array, Floats, Floats]] = []
    for each in classes:
        own = found[:, 1] == each
        order = np.argsort(-found[own, 0], kind="stable")
        wanted = np.array([(image.wanted == each).sum() for image in rows], np.float64)
        ready.append((images[own][order], found[own, 2][order], wanted))

    def score(times: Counts) -> float:
        precisions = [
            _average_precision(times[places].astype(np.float64), hits, total)
            for places, hits, wanted in ready
            if (total := float(times @ wanted))
        ]
        return float(np.mean(precisions)) if precisions else math.nan

    return score


def _average_precision(weights: Floats, hits: Floats, total: float) -> float:
    right, all_told = np.cumsum(weights * hits), np.cumsum(weights)
    precision = np.divide(right, all_told, out=np.zeros_like(right), where=all_told > 0)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / total, _RECALLS, side="left")
    return float(np.append(envelope, 0.0)[places].mean())
