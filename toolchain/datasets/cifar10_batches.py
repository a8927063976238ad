"""The pickled batches in which CIFAR-10 is published, read without trusting them: only arrays are rebuilt."""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain import regular_file
from toolchain.datasets.dataset import Split
from toolchain.errors import BadUsage, NnxError, is_of_the_machine

_CLASSES = 10
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


_RECONSTRUCT = np.empty(0).__reduce__()[0]
"""What makes an array of a pickle: numpy 2 has it in another module than numpy 1."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of images")
        return _RECONSTRUCT if name == "_reconstruct" else super().find_class(module, name)


def read(folder: Path, names: Sequence[str]) -> Split:
    """Join the named batch files into uint8 ``(N, 3, 32, 32)``; raise BadUsage when one is missing or unfit."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BadUsage(f"{folder} lacks {', '.join(missing)}.", "Unpack the archive again.")
    batches = [_read_one(folder / name) for name in names]
    return Split(np.concatenate([inputs for inputs, _ in batches]), np.concatenate([labels for _, labels in batches]))


def _read_one(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    try:
        content = _ArraysOnly(io.BytesIO(regular_file.read_bytes(path)), encoding="bytes").load()
        inputs, labels = content[b"data"], np.array(content[b"labels"], np.int64)
        if inputs.dtype != np.uint8 or len(inputs) != len(labels) or not ((labels >= 0) & (labels < _CLASSES)).all():
            raise ValueError("no images, or labels that are none of theirs")
        return inputs.reshape(-1, 3, 32, 32), labels
    except NnxError:
        raise
    except Exception as error:  # bytes that are no pickle, or not of these things, raise whatever they like
        if is_of_the_machine(error):
            raise
        raise BadUsage(f"{path} is not a batch of CIFAR-10.", "Unpack the archive again.") from error
