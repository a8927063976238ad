"""Samples that a user brings: ``.npz`` and ``.npy`` files, memory-mapped where they are not compressed, and code."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.datasets import npz_file
from toolchain.errors import BadUsage, NnxError, is_of_the_machine

Arrays = dict[str, npt.NDArray[np.generic]]
_ADVICE = "Save the samples with numpy.savez(path, INPUT_NAME=array)."


def load(path: Path, input_names: Sequence[str]) -> Arrays:
    """The arrays of an ``.npz`` by name, or that of an ``.npy`` under the only one of ``input_names``.

    What is not compressed stays on disk until it is read; changes to the arrays never reach it. Raises BadUsage when
    the file is missing, of another kind, or holds pickled objects.
    """
    if not path.is_file():
        raise BadUsage(f"There is no data file {path}.", "Give an .npz or .npy file, a folder, or a recipe's name.")
    try:
        if zipfile.is_zipfile(path):
            return npz_file.load(path)
        array: npt.NDArray[np.generic] = np.lib.format.open_memmap(path, mode="c")
    except (NnxError, MemoryError):
        raise
    except Exception as error:  # what zipfile, its decoders and numpy raise for damaged bytes has a dozen classes
        if is_of_the_machine(error):
            raise
        raise BadUsage(f"{path} is not an .npz or .npy file of plain arrays.", _ADVICE) from error
    if len(input_names) != 1:
        raise BadUsage(f"{path} is a single array, and the model has {len(input_names)} inputs.", _ADVICE)
    return {input_names[0]: array}


def gather(batches: Any, name: str, count: int) -> Arrays:
    """The first ``count`` samples of an iterable of dicts of arrays ``(N, ...)``; BadUsage for anything else."""
    parts: list[Mapping[str, npt.NDArray[np.generic]]] = []
    found = 0
    try:
        for batch in batches:
            if not isinstance(batch, Mapping) or not batch:
                raise TypeError(f"it yielded a {type(batch).__name__}, not a dict of arrays")
            parts.append({key: np.asarray(array) for key, array in batch.items()})
            if parts[0].keys() != parts[-1].keys():
                raise TypeError(f"its dicts have other names: {sorted(parts[0])}, then {sorted(parts[-1])}")
            found += len(next(iter(parts[-1].values())))
            if found >= count:
                break
        if not parts:
            raise TypeError("it yielded nothing")
        return {key: np.concatenate([part[key] for part in parts])[:count] for key in parts[0]}
    except (TypeError, ValueError) as error:
        raise BadUsage(
            f"{name} does not give samples: {error}.", "It must yield dicts of arrays, input name -> (N, ...)."
        ) from error


def choose(total: int, count: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """At most ``count`` of ``total`` row numbers, drawn with ``seed``, in order."""
    if total <= count:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
