"""Metrics of numbers beside numbers: mae, rmse, r2, spearman, cosine."""

import math
from collections.abc import Callable

import numpy as np

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
    means,
    misfit,
    one_array,
    ratios,
)

_WANTS = "numbers of the targets' shape, (N, ...) or (N, 1)"


def mae_metric() -> Metric:
    """The mean of absolute differences, in the targets' unit: over all values of all samples."""
    return Metric(
        name="mae", title="mean absolute error", higher_is_better=False,
        rows=lambda outputs, targets: _sums("mae", outputs, targets, np.abs), scorer=ratios,
    )  # fmt: skip


def rmse_metric() -> Metric:
    """The root of the mean of squared differences, in the targets' unit."""

    def scorer(rows: Rows) -> Scorer:
        mean = ratios(rows)
        return lambda times: math.sqrt(mean(times))

    return Metric(
        name="rmse", title="root mean squared error", higher_is_better=False,
        rows=lambda outputs, targets: _sums("rmse", outputs, targets, np.square), scorer=scorer,
    )  # fmt: skip


def r2_metric() -> Metric:
    """1 - sum of squared differences / sum of squared deviations of the targets from their mean.

    The mean over columns, as scikit-learn's ``r2_score``; not defined where the targets of one are all equal.
    """
    return Metric(
        name="r2", title="R2", rows=lambda outputs, targets: _columns("r2", outputs, targets), scorer=_r2
    )  # fmt: skip


def spearman_metric() -> Metric:
    """The correlation of ranks, equal values sharing the mean rank (scipy.stats.spearmanr), as a mean over columns.

    Not defined where the answers or the targets of a column are all equal.
    """
    return Metric(
        name="spearman", title="Spearman correlation",
        rows=lambda outputs, targets: _columns("spearman", outputs, targets), scorer=_spearman,
    )  # fmt: skip


def cosine_metric() -> Metric:
    """The mean cosine of each sample's outputs to its targets, as flat vectors; 0 where one is all zero."""
    return Metric(name="cosine", title="mean cosine", rows=_cosines, scorer=means)


def pair(name: str, outputs: Outputs, targets: Targets) -> tuple[Array, Array]:
    """(Answers, targets), both ``(N, ...)`` of one shape, of the first output that fits."""
    wanted = one_array(targets)
    if wanted is not None and wanted.dtype.kind in "fiub":
        for _, array in arrays(outputs):
            if array.shape != wanted.shape and _plain(array.shape) == _plain(wanted.shape):
                array = array.reshape(wanted.shape)
            if array.shape == wanted.shape and array.dtype.kind in "fiu":
                return array.astype(np.float64), wanted.astype(np.float64)
    raise misfit(name, _WANTS, outputs, targets)


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without axes of length 1, but for the samples'."""
    return (*shape[:1], *(length for length in shape[1:] if length != 1))


def _sums(name: str, outputs: Outputs, targets: Targets, of: Callable[[Floats], Floats]) -> Rows:
    answers, wanted = pair(name, outputs, targets)
    differences = of(answers - wanted).reshape(len(wanted), -1)
    return np.stack([differences.sum(1), np.full(len(wanted), differences.shape[1])], 1)


def _columns(name: str, outputs: Outputs, targets: Targets) -> Rows:
    """Of each sample ``(2, D)``: answers and targets."""
    answers, wanted = pair(name, outputs, targets)
    return np.stack([answers.reshape(len(wanted), -1), wanted.reshape(len(wanted), -1)], 1)


def _r2(rows: Rows) -> Scorer:
    table = np.asarray(rows, np.float64)
    wanted, errors = table[:, 1] - table[:, 1].mean(0), np.square(table[:, 0] - table[:, 1])
    squares = np.square(wanted)

    def score(times: Counts) -> float:
        count = times.sum()
        total = times @ squares - np.square(times @ wanted) / count
        if (_constant(wanted[times > 0])).any():
            return math.nan
        return float(np.mean(1 - (times @ errors) / total))

    return score


def _spearman(rows: Rows) -> Scorer:
    table = np.asarray(rows, np.float64)

    def score(times: Counts) -> float:
        from scipy.stats import rankdata  # 1.4 s to load

        drawn = np.repeat(table, times, axis=0)
        if _constant(drawn[:, 0]).any() or _constant(drawn[:, 1]).any() or np.isnan(drawn).any():
            return math.nan
        ranks = rankdata(drawn, axis=0)
        centred = ranks - ranks.mean(0)
        products = (centred[:, 0] * centred[:, 1]).sum(0)
        return float(np.mean(products / np.sqrt(np.square(centred).sum(0).prod(0))))

    return score


def _constant(values: Floats) -> Array:
    """Of which columns of ``(N, D)`` all values are equal."""
    same: Array = values.max(0) == values.min(0)
    return same


def _cosines(outputs: Outputs, targets: Targets) -> Rows:
    answers, wanted = (side.reshape(len(side), -1) for side in pair("cosine", outputs, targets))
    lengths = np.linalg.norm(answers, axis=1) * np.linalg.norm(wanted, axis=1)
    products = (answers * wanted).sum(1)
    found: Floats = np.divide(products, lengths, out=np.zeros_like(products), where=lengths != 0)
    return found
