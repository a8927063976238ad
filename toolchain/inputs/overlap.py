"""Samples told apart by content: what a model was calibrated on must not judge it."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from toolchain.errors import BadUsage

Array = npt.NDArray[np.generic]
Inputs = Mapping[str, Array | Sequence[Array]]
Digests = Sequence[bytes]
"""What :func:`digests` found, one a sample."""
_SHOWN = 5
_DIGEST_BYTES = 16  # 2^-128 an accidental match: none among any number of samples that can be stored


def digests(inputs: Inputs) -> list[bytes]:
    """One hash of each sample's content over all ``inputs`` ``(N, ...)``, taken in the order of their names.

    A sample counts by its values: floats as fp32 (-0 as 0), whole numbers as int64, whatever type stores them. Reads
    one sample at a time, so a memory-mapped file stays on disk.
    """
    names = sorted(inputs)
    return [_digest_of(names, [inputs[name][row] for name in names]) for row in range(len(inputs[names[0]]))]


def shared(a: Digests, b: Digests) -> npt.NDArray[np.int64]:
    """The row numbers of ``a`` whose content is in ``b`` too, in order."""
    known = set(b)
    return np.array([row for row, digest in enumerate(a) if digest in known], dtype=np.int64)


def refuse(calibration: Digests, evaluation: Digests) -> None:
    """Raise BadUsage when a sample to calibrate on is also one to judge on."""
    both = shared(calibration, evaluation)
    if both.size:
        count = len(calibration)
        raise BadUsage(
            f"{both.size:,} of the {count:,} calibration samples {'is' if both.size == 1 else 'are'} among those that "
            f"judge the result ({_listed(both.tolist())}, counting from 0).",
            "Give other samples to one of the two: a model is not judged on what it was calibrated on.",
        )


def without(calibration: Digests, evaluation: Digests) -> npt.NDArray[np.int64]:
    """The row numbers of ``calibration`` whose content is not in ``evaluation``; BadUsage when none is left.

    For data sets that nnx splits itself, where a duplicate is the data set's fault and not the user's.
    """
    count = len(calibration)
    kept = np.setdiff1d(np.arange(count, dtype=np.int64), shared(calibration, evaluation))
    if not kept.size:
        raise BadUsage(
            f"All {count:,} calibration samples are among those that judge the result.",
            "Give more samples, or other ones to judge on.",
        )
    return kept


def _digest_of(names: Sequence[str], arrays: Sequence[Array]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name, array in zip(names, arrays, strict=True):
        digest.update(f"{name}\0{array.shape}\0".encode())
        digest.update(_plain(array).tobytes())
    return digest.digest()


def _plain(array: Array) -> Array:
    """The values in the type that stands for their kind."""
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):
            return np.asarray(array, dtype=np.float32) + np.float32(0)
    if array.dtype.kind in "OUS":  # strings: the bytes of an array of them are addresses, or padded
        return np.frombuffer(repr(array.tolist()).encode(), np.uint8)
    return np.asarray(array, dtype=np.int64) if array.dtype.kind in "iub" else array


def _listed(rows: Sequence[int]) -> str:
    """``row 3``, ``rows 1, 2``, ``rows 0, 1, 2, 3, 4 and 9 more``."""
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:_SHOWN]))}{more}"
