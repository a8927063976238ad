"""Samples that a user brings: an ``.npz`` file with one array per model input."""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolchain.errors import BadUsage


def load_npz(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read ``path``; raise BadUsage when it is missing, no ``.npz``, or holds pickled objects."""
    if not path.is_file():
        raise BadUsage(f"There is no data file {path}.", "Give an .npz file, or the name of a recipe.")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise BadUsage(f"{path} is a single array.", "Save it with numpy.savez under the input's name.")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadUsage(
            f"{path} is not an .npz file of plain arrays.",
            "Save the samples with numpy.savez(path, INPUT_NAME=array).",
        ) from error


def choose(total: int, count: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """At most ``count`` of ``total`` row numbers, drawn with ``seed``, in order."""
    if total <= count:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
