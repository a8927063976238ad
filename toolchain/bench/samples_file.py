"""What the rows of a bench run on, in files that they map: numpy's ``.npy``, no pickles."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters import feeds
from exporters.batch_axes import BatchAxes

Array = npt.NDArray[Any]


def write(samples: Mapping[str, Array | Sequence[Array]], folder: Path) -> dict[str, Any]:
    """Input -> the ``.npy`` file that rows map; of samples of unequal shapes one after the other, and their shapes."""
    saved: dict[str, Any] = {}
    for index, (name, array) in enumerate(samples.items()):
        path = folder / f"input{index}.npy"
        if isinstance(array, np.ndarray):
            saved[name] = str(path)
            np.save(path, _plain(array))
        else:
            saved[name] = {"file": str(path), "shapes": [list(each.shape) for each in array]}
            np.save(path, _plain(np.concatenate([each.reshape(-1) for each in array])))
    return saved


def mapped(saved: Mapping[str, Any]) -> dict[str, Array | list[Array]]:
    """What :func:`write` saved, not read yet."""
    found: dict[str, Array | list[Array]] = {}
    for name, entry in saved.items():
        if isinstance(entry, str):
            found[name] = np.load(entry, mmap_mode="r")
            continue
        flat, start = np.load(entry["file"], mmap_mode="r"), 0
        found[name] = samples = []
        for shape in entry["shapes"]:
            stop = start + int(np.prod(shape, dtype=np.int64))
            samples.append(flat[start:stop].reshape(shape))
            start = stop
    return found


def calls(
    samples: Mapping[str, Array | Sequence[Array]], axes: BatchAxes, batch: int
) -> Iterator[tuple[list[int], int]]:
    """The samples of each call that has its outputs judged, and how many of them count.

    A batch that is not whole is filled up, as a model may take whole ones only.
    """
    for part in feeds.parts(samples, replace(axes, fixed=None), batch):
        yield [part[index % len(part)] for index in range(batch)], len(part)


def _plain(array: Array) -> Array:
    """Strings as numpy holds them without pickling."""
    return array.astype(np.str_) if array.dtype == object else array
