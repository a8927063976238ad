"""Samples that a user brings: ``.npz`` and ``.npy`` files, memory-mapped where they are not compressed, and code."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters import feeds
from exporters.batch_axes import BatchAxes
from exporters.errors import BadCalibrationData
from exporters.feeds import SampleArray
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
        with path.open("rb") as file:  # asked for a path, it takes a disk that fails for another kind of file
            zipped = zipfile.is_zipfile(file)
        if zipped:
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


def gather(batches: Any, name: str, count: int, axes: BatchAxes | None = None) -> dict[str, SampleArray]:
    """The first ``count`` samples of an iterable of dicts, each a :data:`SampleSet` for a model with ``axes``.

    Where a model of a fixed batch takes inputs without a batch axis too, a dict may be one call, which is one sample.
    Without ``axes`` all arrays are ``(N, ...)``. Samples of unequal shapes become lists. BadUsage for anything else.
    """
    parts: list[Mapping[str, npt.NDArray[Any]]] = []
    found = 0
    try:
        for batch in batches:
            if not isinstance(batch, Mapping) or not batch:
                raise TypeError(f"it yielded a {type(batch).__name__}, not a dict of arrays")
            part = {key: np.asarray(array) for key, array in batch.items()}
            layout = axes or BatchAxes(dict.fromkeys(part, 0), {}, None)
            for key, value in part.items():
                if not value.ndim and not feeds.is_shared(value, key, layout):
                    raise TypeError(f"its '{key}' is one value, and not one a sample")
            if _is_call(part, layout):
                part = {key: value[np.newaxis] for key, value in part.items()}
            parts.append({key: np.asarray(value) for key, value in feeds.expanded(part, layout).items()})
            if parts[0].keys() != parts[-1].keys():
                raise TypeError(f"its dicts have other names: {sorted(parts[0])}, then {sorted(parts[-1])}")
            found += len(next(iter(parts[-1].values())))
            if found >= count:
                break
        if not parts:
            raise TypeError("it yielded nothing")
        return {key: _together([part[key] for part in parts], count) for key in parts[0]}
    except (TypeError, ValueError, BadCalibrationData) as error:
        raise BadUsage(
            f"{name} does not give samples: {str(error).rstrip('.')}.",
            "It must yield dicts of arrays, input name -> (N, ...).",
        ) from error


def _is_call(part: Mapping[str, npt.NDArray[Any]], axes: BatchAxes) -> bool:
    """Whether it is a whole call of a fixed batch, as the model takes it, with inputs that have no batch axis."""
    return (
        (axes.fixed or 1) > 1
        and None in [axes.inputs.get(key) for key in part]
        and all(value.shape == axes.shapes.get(key) for key, value in part.items())
    )


def _together(parts: Sequence[npt.NDArray[Any]], count: int) -> SampleArray:
    """The samples of all parts: one array, or a list where their shapes differ."""
    if len({part.shape[1:] for part in parts if len(part)}) <= 1:
        return np.concatenate(parts)[:count]
    return [sample for part in parts for sample in part][:count]


def choose(total: int, count: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """At most ``count`` of ``total`` row numbers, drawn with ``seed``, in order."""
    if total <= count:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
