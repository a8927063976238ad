"""The metrics that come with nnx, by their names."""

from collections.abc import Callable, Mapping

from toolchain.accuracy.metrics import boxes, classes, masks, numbers, texts
from toolchain.accuracy.metrics.metric import Metric

BUILT_IN: Mapping[str, Callable[[], Metric]] = {
    "top1": classes.top1_metric,
    "top5": classes.top5_metric,
    "f1": classes.f1_metric,
    "mae": numbers.mae_metric,
    "rmse": numbers.rmse_metric,
    "r2": numbers.r2_metric,
    "spearman": numbers.spearman_metric,
    "cosine": numbers.cosine_metric,
    "iou": masks.iou_metric,
    "map50": boxes.map50_metric,
    "wer": texts.wer_metric,
}
TOP1 = BUILT_IN["top1"]()
"""What labels are judged by where nobody named a metric; they are one class number a sample then."""
