"""Samples in tar files by WebDataset's convention: neighbours ``KEY.jpg``, ``KEY.cls`` are one, read at any place."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain import memory_budget, regular_file
from toolchain.datasets import members, parts, tar_index
from toolchain.datasets import wanted as wanted_parts
from toolchain.datasets.bad_samples import BadSample, BadSamples
from toolchain.datasets.dataset import Dataset
from toolchain.datasets.on_demand import Sample
from toolchain.datasets.parts import Drawn, StatDigest
from toolchain.datasets.pictures import Pictures
from toolchain.datasets.tar_index import NO_NUMBER, Index
from toolchain.datasets.wanted import Wanted
from toolchain.errors import BadUsage

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000
_WORD = re.compile(r"[A-Za-z]+")
_CLASS = "cls"


def files_of(pattern: str | Path) -> list[Path]:
    """The shards that a folder, a file, or ``name-{000000..000099}.tar`` stands for; BadUsage for a missing one."""
    path = Path(pattern)
    if path.is_dir():
        found = sorted([*path.glob("*.tar"), *path.glob("*/*.tar")])
        if not found:
            raise BadUsage(f"{path} has no .tar files.", "Give a folder of plain .tar shards.")
        return found
    names = [str(pattern)]
    while (cut := _RANGE.search(names[0])) is not None:
        first, last = int(cut[1]), int(cut[2])
        if not 0 <= (last - first) * len(names) < _MOST_SHARDS:
            raise BadUsage(f"{pattern} names no shards, or a million.", "Write it as {000000..000099}.")
        numbers = [str(number).zfill(len(cut[1])) for number in range(first, last + 1)]
        names = [_RANGE.sub(number, name, count=1) for name in names for number in numbers]
    if missing := [name for name in names if not Path(name).is_file()]:
        raise BadUsage(f"There is no {missing[0]}.", "Give a folder of shards, or their names as {000000..000099}.tar.")
    return [Path(name) for name in names]


@dataclass(frozen=True)
class _Places:
    """Where the wanted member of each sample lies, and which of its extensions it has."""

    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    option: npt.NDArray[np.int8]


@dataclass(frozen=True)
class _Name:
    """What a member is called; found when it is to be said."""

    shard: Path
    sample: int
    extension: str

    def __str__(self) -> str:
        return f"'{tar_index.of(self.shard).key(self.sample)}.{self.extension}' in {self.shard}"


class Shards:
    """The samples of ``files`` that have all of ``inputs`` and ``targets``; the others are bad.

    Both are an extension, or several in a dict by name; ``jpg;png`` takes either; without ``targets`` each is 0. The
    memory is 4 bytes a sample, and 17 for each of its members that is wanted.
    """

    def __init__(
        self, files: Sequence[Path], inputs: Wanted, targets: Wanted | None, pictures: Pictures, bad: BadSamples
    ) -> None:
        self._files, self._inputs, self._targets, self._pictures = files, inputs, targets, pictures
        self._stats = [_stamp(path.stat()) for path in files]
        self._wanted = dict.fromkeys([*wanted_parts.names(inputs), *wanted_parts.names(targets)])
        shards = [self._whole_samples(path, tar_index.of(path), bad) for path in files]
        self._first = np.cumsum([0, *(len(sample) for sample, _, _ in shards)])
        self._sample = np.concatenate([sample for sample, _, _ in shards])
        self._places = {
            name: _Places(
                *map(np.concatenate, zip(*(vars(found[name]).values() for _, found, _ in shards), strict=True))
            )
            for name in self._wanted
        }
        self.labels = np.concatenate([labels for _, _, labels in shards]) if targets == _CLASS else None

    def __len__(self) -> int:
        return len(self._sample)

    def read(self, row: int) -> Sample:
        shard = int(np.searchsorted(self._first, row, side="right")) - 1
        with regular_file.opened(self._files[shard]) as file:
            if _stamp(os.fstat(file.fileno())) != self._stats[shard]:
                raise BadUsage(f"{self._files[shard]} has changed since it was looked through.", "Begin again.")

            def value(wanted: str) -> Any:
                if wanted == _CLASS and self.labels is not None:
                    return self.labels[row]
                places = self._places[wanted]
                extension, size = wanted.split(";")[places.option[row]], int(places.size[row])
                name = _Name(self._files[shard], int(self._sample[row]), extension)
                if size > memory_budget.BYTES.get():
                    raise BadSample(f"{name} has {size / 1e9:.1f} GB")
                file.seek(int(places.offset[row]))
                return members.decoded(file.read(size), extension, name, self._pictures)

            inputs = wanted_parts.filled(self._inputs, value)
            return inputs, np.int64(0) if self._targets is None else wanted_parts.filled(self._targets, value)

    def _whole_samples(
        self, path: Path, index: Index, bad: BadSamples
    ) -> tuple[npt.NDArray[np.int32], dict[str, _Places], npt.NDArray[np.int64]]:
        """Which samples of a shard have all that is wanted, where it lies, and what their ``.cls`` say."""
        bad.add(index.faults)
        count = len(index)
        whole, labels = np.ones(count, bool), np.full(count, NO_NUMBER)
        found: dict[str, _Places] = {}
        for wanted in self._wanted:
            places = _Places(np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int8))
            times = np.zeros(count, np.int64)
            for option, extension in enumerate(wanted.split(";")):
                if extension not in index.kinds:
                    continue
                rows = np.flatnonzero(index.kind == index.kinds.index(extension))
                samples = index.sample[rows]
                np.add.at(times, samples, 1)
                places.offset[samples], places.size[samples] = index.offset[rows], index.size[rows]
                places.option[samples] = option
                if extension == _CLASS:
                    labels[samples] = index.number[rows]
            self._tell(bad, path, index, whole & (times == 0), f"has no .{wanted.replace(';', ' or .')}")
            self._tell(bad, path, index, whole & (times > 1), f"has more than one .{wanted.replace(';', ' or .')}")
            whole &= times == 1
            if wanted == _CLASS:
                self._tell(bad, path, index, whole & (labels == NO_NUMBER), "has no class number in its .cls")
                whole &= labels != NO_NUMBER
            found[wanted] = places
        kept = np.flatnonzero(whole)
        return (
            kept.astype(np.int32),
            {name: _Places(*(column[kept] for column in vars(each).values())) for name, each in found.items()},
            labels[kept],
        )

    @staticmethod
    def _tell(bad: BadSamples, path: Path, index: Index, rows: npt.NDArray[np.bool_], what: str) -> None:
        bad.add(f"'{index.key(int(row))}' in {path} {what}" for row in np.flatnonzero(rows))


class WebDataset:
    """Shards below a folder, or ``name-{000000..000099}.tar``; those whose folder or name begins with ``train``,
    ``val`` or ``test`` are that split.

    ``inputs`` and ``targets`` are what :class:`Shards` takes, ``classes`` the names of the class numbers.
    """

    def __init__(
        self,
        place: str | Path | None,
        pictures: Pictures = Pictures(),  # noqa: B008
        *,
        inputs: Wanted = "jpg;jpeg;png",
        targets: Wanted = _CLASS,
        classes: tuple[str, ...] = (),
        drawn: Drawn = Drawn(),  # noqa: B008
    ) -> None:
        if place is None:
            raise BadUsage("The recipe reads tar shards.", "Add --data DIR with the folder that holds them.")
        for wanted in (*wanted_parts.names(inputs), *wanted_parts.names(targets)):
            for extension in wanted.split(";"):
                members.require_known(extension)
        if any(map(_is_picture, wanted_parts.names(targets))):
            raise BadUsage(f"A picture is the target of {place}, and pictures are scaled and cut.", parts.MASKS)
        self._inputs, self._targets, self._classes = inputs, targets, classes
        self._how, self._drawn = pictures, drawn
        self._files = by_split(place)
        parts.require_train(self._files, Path(place))

    def digest(self) -> str:
        """As :class:`.parts.StatDigest` says."""
        digest = StatDigest(self._how, self._drawn, self._inputs, self._targets)
        for split, paths in sorted(self._files.items()):
            for path in paths:
                digest.add(f"{split}/{path.name}", path.stat())
        return str(digest)

    def load(self) -> Dataset:
        """The headers of shards that were never seen are read, and their index is kept."""
        bad = BadSamples()
        found = {
            split: Shards(self._files[split], self._inputs, self._targets, self._how, bad)
            for split in parts.NAMES
            if split in self._files
        }
        return self._drawn.dataset(
            found, bad=bad, classes=self._classes, scale=parts.scales(self._how, self._inputs, _is_picture)
        )

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """The size, the cut and the scale of the pictures, where they are the only input."""
        return self._how.save(folder) if isinstance(self._inputs, str) and _is_picture(self._inputs) else []


def by_split(place: str | Path) -> dict[str, list[Path]]:
    """The shards that ``place`` stands for, by the name of their split."""
    found: dict[str, list[Path]] = {}
    for path in files_of(place):
        found.setdefault(_split_of(path), []).append(path)
    return found


def _split_of(path: Path) -> str:
    """Named by its folder or the word that its own name begins with, else the training."""
    word = _WORD.match(path.name)
    return parts.split_called(word[0] if word else "") or parts.split_called(path.parent.name) or "train"


def _stamp(there: os.stat_result) -> tuple[int, int]:
    return there.st_size, there.st_mtime_ns


def _is_picture(wanted: str) -> bool:
    return members.is_picture(wanted.partition(";")[0])
