"""The metric of a task, with its interval."""

import numpy as np
import numpy.typing as npt

from toolchain.errors import BadUsage
from toolchain.stats import Interval, proportion


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
