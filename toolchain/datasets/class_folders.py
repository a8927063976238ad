"""Pictures in one folder per class, read when they are asked for."""

import os
from array import array
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolchain import regular_file
from toolchain.datasets import parts
from toolchain.datasets.bad_samples import BadSample, BadSamples
from toolchain.datasets.dataset import Dataset
from toolchain.datasets.image_tree import SUFFIXES
from toolchain.datasets.on_demand import Sample
from toolchain.datasets.parts import Drawn, StatDigest
from toolchain.datasets.pictures import Pictures
from toolchain.errors import BadUsage

_FLAT = ("",)


@dataclass(frozen=True)
class PicturesInFolders:
    """What lies in one folder: their names in one piece of memory, a few bytes each, and the numbers of their folders.

    Pictures right in ``folder`` have no labels.
    """

    folder: Path
    classes: tuple[str, ...]
    names: bytes
    name_ends: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    pictures: Pictures

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        return None if self.classes == _FLAT else self.numbers

    def path(self, row: int) -> Path:
        start = int(self.name_ends[row - 1]) if row else 0
        name = os.fsdecode(self.names[start : int(self.name_ends[row])])
        return self.folder / self.classes[int(self.numbers[row])] / name

    def read(self, row: int) -> Sample:
        path = self.path(row)
        try:
            pixels = self.pictures.decode(regular_file.read_bytes(path), str(path))
        except FileNotFoundError as error:
            raise BadSample(f"{path} is gone") from error
        except BadUsage as error:
            raise BadSample(error.what.rstrip(".")) from error
        return pixels, self.numbers[row]


class ImageFolder:
    """``<class>/*`` or ``train/<class>/*`` with ``validation`` (or ``val``) and ``test`` beside it: jpg and png files.

    Inputs ``(N, 3, H, W)`` uint8; classes are numbered by their sorted names in the training part. The memory is a few
    bytes a picture. A part that is not there is drawn from the training part.
    """

    def __init__(self, folder: Path | None, pictures: Pictures = Pictures(), *, drawn: Drawn = Drawn()) -> None:  # noqa: B008
        if folder is None:
            raise BadUsage("The recipe reads a folder of pictures.", "Add --data DIR with a folder for each class.")
        if not folder.is_dir():
            raise BadUsage(f"There is no folder {folder}.", "Give one that holds a folder of pictures for each class.")
        self._folder, self._how, self._drawn = folder, pictures, drawn

    def digest(self) -> str:
        """As :class:`.parts.StatDigest` says."""
        return self._found[1]

    def load(self) -> Dataset:
        """Nothing but the index is read."""
        found = self._found[0]
        return self._drawn.dataset(
            found, bad=BadSamples(), classes=found["train"].classes, scale=self._how.scale
        )  # fmt: skip

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """The size, the cut and the scale of the pictures."""
        return self._how.save(folder)

    @cached_property
    def _found(self) -> tuple[dict[str, PicturesInFolders], str]:
        # a class may be called train: the folder of a split is one of folders
        folders = parts.folders_of(path for path in _folders_in(self._folder) if classes_in(path))
        folders = folders or {"train": self._folder}
        parts.require_train(folders, self._folder)
        classes = tuple(path.name for path in classes_in(folders["train"]))
        digest = StatDigest(self._how, self._drawn)
        found = {name: _index(folders[name], classes, self._how, digest) for name in parts.NAMES if name in folders}
        if not len(found["train"]):
            raise BadUsage(
                f"{folders['train']} has no .jpg or .png files in its folders.", "Give one that has a folder per class."
            )
        return found, str(digest)


def without_parts(folder: Path, pictures: Pictures) -> PicturesInFolders:
    """All that lies in the folders of ``folder`` that hold some, or right in it; none where there is none."""
    classes = tuple(path.name for path in classes_in(folder))
    return _index(folder, classes or _FLAT, pictures, StatDigest())


def _index(folder: Path, classes: tuple[str, ...], pictures: Pictures, digest: StatDigest) -> PicturesInFolders:
    if strange := sorted({path.name for path in classes_in(folder)} - set(classes) - set(_FLAT)):
        raise BadUsage(
            f"{folder} has the class '{strange[0]}', and the training part has none of that name.",
            f"Its classes are {', '.join(classes[:10])}.",
        )
    names, ends, labels = bytearray(), array("q"), array("q")
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue
        with os.scandir(folder / name) as entries:
            files = sorted((each.name, each.stat()) for each in entries if _is_picture(each))
        for file, there in files:
            digest.add(f"{folder.name}/{name}/{file}", there)
            names += os.fsencode(file)
            ends.append(len(names))
            labels.append(label)
    return PicturesInFolders(
        folder, classes, bytes(names), np.array(ends, np.int64), np.array(labels, np.int64), pictures
    )


def classes_in(folder: Path) -> list[Path]:
    """The folders that hold pictures, whose order is that of the class numbers."""
    found = []
    for path in _folders_in(folder):
        with os.scandir(path) as entries:
            if any(map(_is_picture, entries)):
                found.append(path)
    return found


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_picture(entry: "os.DirEntry[str]") -> bool:
    return Path(entry.name).suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
