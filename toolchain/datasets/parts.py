"""The splits of a data set that lies in parts: by their names, or drawn."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from toolchain.datasets.bad_samples import BadSamples
from toolchain.datasets.dataset import Dataset, Scale, Split
from toolchain.datasets.on_demand import OnDemand, Rows, Store
from toolchain.datasets.pictures import Pictures
from toolchain.datasets.wanted import Wanted
from toolchain.errors import BadUsage

NAMES = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What each split may be called."""
_DRAWN_SHARE = 0.1
MASKS = "Store a mask as an array, such as .npy, of the size that the model gives."
"""What to do about pictures that are targets."""


def split_called(name: str) -> str | None:
    """Which split ``name``, that of a folder or the beginning of a file's, stands for; None for another name."""
    return next((split for split, names in NAMES.items() if name.lower() in names), None)


def folders_of(folders: Iterable[Path]) -> dict[str, Path]:
    """Those that are called as a split, by its name; BadUsage where two are called as one."""
    found: dict[str, Path] = {}
    for path in folders:
        split = split_called(path.name)
        if split in found:
            raise BadUsage(f"{found[split]} and {path} are both the {split} split.", "Rename one of them.")
        if split is not None:
            found[split] = path
    return {split: found[split] for split in NAMES if split in found}


_Part = TypeVar("_Part")


def nearest(found: Mapping[str, _Part], split: str) -> _Part:
    """The part for ``split``, or where it has none of its own the one that comes nearest."""
    return next(found[name] for name in (split, "validation", "train", "test") if name in found)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How splits are drawn where the data names none: with this seed, a tenth of the training samples each."""

    seed: int = 0

    def dataset(
        self,
        parts: Mapping[str, Store],
        *,
        bad: BadSamples,
        classes: tuple[str, ...],
        scale: Scale | Mapping[str, Scale],
    ) -> Dataset:
        """Of ``parts`` by the name of their split, of which ``train`` is one.

        What is missing of the validation and the test is taken out of the training. Every split has an order drawn from
        the seed: files lie by class, and the first samples shall be a fair part.
        """
        for name, store in parts.items():
            if not len(store):
                raise BadUsage(f"The {name} split of the data has no samples.", "Look at its folder.")
        rows: dict[str, Rows] = {}
        for place, (name, store) in enumerate(parts.items()):
            rows[name] = np.random.default_rng([self.seed, place]).permutation(len(store)).astype(np.int64)
        missing = [name for name in NAMES if name not in parts]
        share = max(1, round(len(rows["train"]) * _DRAWN_SHARE))
        for name in missing:
            rows[name], rows["train"] = rows["train"][:share], rows["train"][share:]
        if not len(rows["train"]):
            raise BadUsage("The data has too few samples to draw a validation and a test of them.", "Give more.")
        made = {
            name: Split.on_demand(OnDemand(parts.get(name, parts["train"]), chosen, bad))
            for name, chosen in rows.items()
        }
        return Dataset(
            train=made["train"], validation=made["validation"], test=made["test"], classes=classes, scale=scale, bad=bad
        )  # fmt: skip


def require_train(parts: Iterable[str], where: Path) -> None:
    """BadUsage where there is no training data."""
    if "train" not in parts:
        raise BadUsage(
            f"{where} has no part that is called train.", "Name a folder or a file so, or give them one by one."
        )


def scales(pictures: Pictures, inputs: Wanted, is_picture: Callable[[str], bool]) -> Scale | Mapping[str, Scale]:
    """Pictures among the inputs have one, and nothing else has."""
    if isinstance(inputs, str):
        return pictures.scale if is_picture(inputs) else Scale()
    return {name: pictures.scale for name, each in inputs.items() if is_picture(each)}


class StatDigest:
    """SHA-256 over the names, sizes and times of change of files, of which none is read.

    So it misses a file that was changed and has its old size and time, and takes one that was copied without its time
    for another.
    """

    def __init__(self, *told: object) -> None:
        self._state = hashlib.sha256(repr(told).encode())

    def add(self, name: str, there: os.stat_result) -> None:
        """One more, in an order that is always the same."""
        self._state.update(f"\0{name}\0{there.st_size}\0{there.st_mtime_ns}".encode(errors="surrogateescape"))

    def __str__(self) -> str:
        return self._state.hexdigest()
