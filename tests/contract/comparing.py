"""Two model files beside each other, as a conversion compares them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.model_file import ModelFile
from toolchain.accuracy import output_kinds
from toolchain.accuracy.comparison import Comparison, compare
from toolchain.accuracy.running import calls_of
from toolchain.errors import CheckFailed


def outputs_of(path: Path, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """What a file gives for ``inputs``, whose outputs have one row a sample."""
    file = ModelFile(path)
    calls = calls_of(file, inputs, file.batch_axes)
    return {name: np.concatenate([np.atleast_1d(call[name]) for call in calls]) for name in calls[0]}


def compared(made: Path, reference: Path, inputs: Mapping[str, npt.NDArray[Any]], *, precision: str) -> Comparison:
    """Run both on ``inputs``; CheckFailed when ``made`` does not pass."""
    original = ModelFile(reference)
    axes = original.batch_axes
    expected, got = (calls_of(file, inputs, axes) for file in (original, ModelFile(made)))
    found = compare(
        expected, got, precision=precision, kinds=output_kinds.of(original.proto), axes=axes.outputs,
        samples=len(next(iter(inputs.values()))),
    )  # fmt: skip
    if not found.passed:
        raise CheckFailed(f"{found.why} ({found})", "")
    return found
