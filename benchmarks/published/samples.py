"""What a published model is fed: real values where its package's files or Python's own can be read, else made up."""

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.model_file import ModelFile
from toolchain.inputs import made_up

CALIBRATION, HELD_BACK = 32, 16
Arrays = dict[str, npt.NDArray[Any]]


def write(model: ModelFile, name: str, folder: Path) -> bool:
    """``calibration.npz`` and ``held_back.npz`` into ``folder``; whether they are real. BadUsage where none fit."""
    real = REAL.get(name)
    total = CALIBRATION + HELD_BACK
    arrays = dict(made_up.samples_for(model, total).by_row) if real is None else real(total)
    mixed = np.random.default_rng(5).permutation(total)
    for file, chosen in (("calibration", mixed[:CALIBRATION]), ("held_back", mixed[CALIBRATION:])):
        part: dict[str, Any] = {key: np.stack([array[row] for row in chosen]) for key, array in arrays.items()}
        np.savez(folder / f"{file}.npz", **part)
    return real is not None


def _bytes_of_files(count: int) -> Arrays:
    """As magika reads a file: its first and its last 1024 bytes without white space around, 256 where there is none."""
    files = sorted(path for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.*") if path.is_file())
    rows = np.full((count, 2048), 256, np.int32)
    for row, path in zip(rows, files, strict=False):
        content = path.read_bytes()
        first, last = content.lstrip()[:1024], content.rstrip()[-1024:]
        row[: len(first)] = np.frombuffer(first, np.uint8)
        row[2048 - len(last) :] = np.frombuffer(last, np.uint8)
    return {"bytes": rows}


REAL: dict[str, Callable[[int], Arrays]] = {"magika/model.onnx": _bytes_of_files}
