"""A metric made of a function of the user's."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolchain.accuracy.metrics.metric import (
    Array,
    Counts,
    Floats,
    Mean,
    Metric,
    Outputs,
    Rows,
    Scorer,
    Targets,
    arrays,
)
from toolchain.accuracy.targets import count, taken
from toolchain.errors import BadUsage, NnxError

Function = Callable[[Any, Any], Any]
_DRAWS = 100
"""Of a function over all samples, which may take seconds: the deviation is then known to 7 %."""
_MEND = "Return one number for each sample, or one over all."


@dataclass(frozen=True)
class _Kept:
    """A sample of which only all together make a score."""

    outputs: Any
    targets: Any


def of_function(function: Function, name: str, *, higher_is_better: bool, code: str = "") -> Metric:
    """``function(outputs, targets)`` as a metric: its mean where it gives one number a sample, else its own score.

    It is handed the output itself where the model has one, else a mapping by name. Where it gives one number over all
    samples, these are kept in memory, and a bootstrap calls it again for each draw. What it gives may be a list, an
    array or a tensor. Raises BadUsage for whatever the function raises, and for what it gives besides.
    """

    def rows(outputs: Outputs, targets: Targets) -> Rows:
        found = _called(function, name, outputs, targets)
        samples = count(targets)
        if found.ndim == 0:
            places = range(samples)
            return [_Kept(_some(outputs, [place]), taken(targets, [place])) for place in places]
        if found.shape != (samples,):
            raise BadUsage(f"{name} gave {list(found.shape)} numbers for {samples:,} samples.", _MEND)
        if broken := int((~np.isfinite(found)).sum()):
            what = "NaN" if np.isnan(found).any() else "infinity"
            raise BadUsage(f"{name} gave {what} for {broken:,} of {samples:,} samples.", "Look at those in Python.")
        return found

    def scorer(each: Rows) -> Scorer:
        if not isinstance(each[0], _Kept):
            return Mean(np.asarray(each, np.float64))

        def score(times: Counts) -> float:
            drawn = np.repeat(np.arange(len(each)), times).tolist()
            outputs = _joined([each[place].outputs for place in drawn])
            targets = _joined([each[place].targets for place in drawn])
            found = _called(function, name, outputs, targets)
            return float(found) if found.ndim == 0 else math.nan

        return score

    title = name.rpartition(":")[2]
    return Metric(
        name=name, title=title, higher_is_better=higher_is_better, code=code, draws=_DRAWS, rows=rows, scorer=scorer
    )  # fmt: skip


def _called(function: Function, name: str, outputs: Outputs, targets: Targets) -> Floats:
    named = dict(arrays(outputs))
    try:
        given = function(next(iter(named.values())) if len(named) == 1 else named, targets)
    except NnxError:
        raise
    except Exception as error:
        what = f"{name} failed: {type(error).__name__}: {error}."
        raise BadUsage(what, "Call it in Python with outputs and targets as nnx has them, arrays (N, ...).") from error
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    try:
        if given is None:
            raise TypeError
        return np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise BadUsage(f"{name} gave a {type(given).__name__}, which is no number.", _MEND) from error


def _some(outputs: Outputs, places: Sequence[int]) -> dict[str, Array]:
    return {name: array[places] for name, array in arrays(outputs)}


def _joined(parts: Sequence[Any]) -> Any:
    """What one call of the function takes of what single samples have."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _joined([part[name] for part in parts]) for name in first}
    if all(isinstance(part, np.ndarray) and part.shape[1:] == first.shape[1:] for part in parts):
        return np.concatenate(parts)
    return [sample for part in parts for sample in part]
