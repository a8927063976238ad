"""The right answers of samples, of any type: one array, arrays of unequal shapes, or several of these by name."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.errors import BadUsage

Array = npt.NDArray[Any]
Targets = Array | Sequence[Array] | Mapping[str, Any]
_PART = 4_096
"""Samples that are looked at at once: targets may lie on disk."""


def count(targets: Targets) -> int:
    """Of how many samples; BadUsage where several arrays have not as many."""
    if isinstance(targets, Mapping):
        counts = {name: len(each) for name, each in targets.items()}
        if len(set(counts.values())) != 1:
            raise BadUsage(f"The targets have these numbers of samples: {counts}.", "Give each the same number.")
        return next(iter(counts.values()))
    return 0 if isinstance(targets, np.ndarray) and not targets.ndim else len(targets)


def are_classes(targets: Targets | None) -> bool:
    """Whether each is one class number."""
    return isinstance(targets, np.ndarray) and targets.ndim == 1 and targets.dtype.kind in "iu"


def taken(targets: Targets, rows: Sequence[int] | npt.NDArray[np.int64] | slice) -> Targets:
    """Those of some samples."""
    if isinstance(targets, Mapping):
        return {name: taken(each, rows) for name, each in targets.items()}
    if isinstance(targets, np.ndarray):
        return targets[rows]
    return list(targets[rows]) if isinstance(rows, slice) else [targets[row] for row in rows]


def digest(targets: Targets) -> str:
    """The SHA-256 of all values, types and shapes."""
    state = hashlib.sha256()
    for name, part in _parts(targets, ""):
        state.update(f"{name} {part.dtype} {part.shape};".encode())
        state.update(np.ascontiguousarray(part).tobytes())
    return state.hexdigest()


def require_numbers(targets: Targets, source: str) -> None:
    """Raise BadUsage where a target is NaN."""
    for name, part in _parts(targets, ""):
        if part.dtype.kind == "f" and np.isnan(part).any():
            rows = int(np.isnan(part).reshape(len(part), -1).any(1).sum())
            where = f" '{name}'" if name else ""
            raise BadUsage(
                f"The targets{where} in {source} hold NaN ({rows:,} of {len(part):,} samples looked at).",
                "Remove those samples; pad boxes with class -1.",
            )


def _parts(targets: Targets, name: str) -> Iterator[tuple[str, Array]]:
    if isinstance(targets, Mapping):
        for key, each in targets.items():
            yield from _parts(each, key)
    elif isinstance(targets, np.ndarray):
        for start in range(0, len(targets), _PART):
            yield name, np.asarray(targets[start : start + _PART])
    else:
        for each in targets:
            yield name, np.asarray(each)[np.newaxis]
