"""Data that are numbers: a NaN or an infinity in them is called that, before anything is trained on it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.datasets.dataset import Column, Dataset, columns_of
from toolchain.errors import BadUsage

_PART_BYTES = 32 << 20
"""Looked at at once: arrays may lie on disk."""


def require_finite(data: Dataset, input_name: str) -> None:
    """Raise BadUsage that names the split, the input or target, the first row, and how many rows are not finite."""
    for split_name, split in data.splits.items():
        inputs = columns_of(split.inputs, input_name).items()
        targets = columns_of(split.targets).items()
        named = [(f"input '{name}'", column) for name, column in inputs]
        named += [(f"target '{name}'" if name else "target", column) for name, column in targets]
        for what, column in named:
            _require_finite(column, f"The {what} of the {split_name} split")


def _require_finite(column: Column, what: str) -> None:
    rows: list[int] = []
    value = 0.0
    for start, part in _parts(column):
        finite = np.isfinite(part).reshape(len(part), -1)
        broken = np.flatnonzero(~finite.all(1))
        if len(broken) and not rows:
            flat = part.reshape(len(part), -1)[broken[0]]
            value = float(flat[~np.isfinite(flat)][0])
        rows += (start + broken).tolist()
    if rows:
        kind = "NaN" if np.isnan(value) else "infinity"
        count = f"{len(rows):,} of {len(column):,} rows are" if len(rows) > 1 else f"1 of {len(column):,} rows is"
        raise BadUsage(
            f"{what} holds {kind} in row {rows[0]}, counting from 0; {count} not finite.",
            "Leave those rows out, or put a number in their place.",
        )


def _parts(column: Column) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The floats among them, some rows at a time, and the first row's number."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind in "fc":
            size = max(1, _PART_BYTES // max(1, column[:1].nbytes))
            for start in range(0, len(column), size):
                yield start, column[start : start + size]
    elif isinstance(column, (list, tuple)):  # what reads a file when it is asked is not asked for all of them here
        for row, sample in enumerate(column):
            if isinstance(sample, (np.ndarray, float)) and np.asarray(sample).dtype.kind in "fc":
                yield row, np.asarray(sample)[np.newaxis]
