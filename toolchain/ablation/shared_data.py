"""A data set in files that all loops of an ablation map, so that none holds it for itself."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.datasets.dataset import Columns, Dataset, Scale, Split, columns_of

_SPLITS = ("train", "validation")


def write(data: Dataset, folder: Path) -> dict[str, Any] | None:
    """What :func:`mapped` takes; None for a data set that is not all arrays, which each loop then reads for itself."""
    splits = {name: data.splits[name] for name in _SPLITS}
    columns = [each for split in splits.values() for each in (split.inputs, split.targets)]
    if not all(isinstance(array, np.ndarray) for each in columns for array in columns_of(each).values()):
        return None
    scale = data.scale
    return {
        "splits": {
            name: {
                "inputs": _written(split.inputs, folder / f"{name}_inputs"),
                "targets": _written(split.targets, folder / f"{name}_targets"),
            }
            for name, split in splits.items()
        },
        "scale": asdict(scale)
        if isinstance(scale, Scale)
        else {"by_input": {name: asdict(each) for name, each in scale.items()}},
    }


def mapped(files: Mapping[str, Any]) -> Dataset:
    """The data set; its test split is the validation split, which no loop asks for."""
    splits = {
        name: Split(_mapped(parts["inputs"]), _mapped(parts["targets"])) for name, parts in files["splits"].items()
    }
    scales = files["scale"].get("by_input")
    scale = Scale(**files["scale"]) if scales is None else {name: Scale(**each) for name, each in scales.items()}
    validation = splits["validation"]
    return Dataset(train=splits["train"], validation=validation, test=validation, scale=scale)


def _written(columns: Columns, stem: Path) -> str | dict[str, str]:
    if isinstance(columns, Mapping):
        return {
            name: str(_saved(column, stem.with_name(f"{stem.name}{place}.npy")))
            for place, (name, column) in enumerate(columns.items())
        }
    return str(_saved(columns, stem.with_suffix(".npy")))


def _saved(column: Any, path: Path) -> Path:
    np.save(path, column)
    return path


def _mapped(files: str | Mapping[str, str]) -> Columns:
    if isinstance(files, str):
        column: Columns = np.load(files, mmap_mode="r")
        return column
    return {name: np.load(path, mmap_mode="r") for name, path in files.items()}
