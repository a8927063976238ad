"""Two model files beside each other, as a conversion compares them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from toolchain.accuracy import parity
from toolchain.accuracy.parity import Parity


def compared(made: Path, reference: Path, inputs: Mapping[str, npt.NDArray[Any]], *, precision: str) -> Parity:
    """Run both on ``inputs``; CheckFailed when ``made`` does not pass."""
    expected, got = (parity.outputs_of(path, inputs) for path in (reference, made))
    return parity.check_conversion(expected, got, precision=precision)
