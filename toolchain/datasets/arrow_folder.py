"""What the package ``datasets`` of Hugging Face left by ``save_to_disk``: Arrow files, mapped, a row read at a time.

From the local folder alone: nothing is fetched, and no code of a data set is run.
"""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.datasets import parts, wanted
from toolchain.datasets.bad_samples import BadSample, BadSamples
from toolchain.datasets.dataset import Dataset
from toolchain.datasets.on_demand import Sample
from toolchain.datasets.parts import Drawn, StatDigest
from toolchain.datasets.pictures import Pictures
from toolchain.datasets.wanted import Wanted
from toolchain.errors import BadUsage, is_of_the_machine

_OF_ONE, _OF_SEVERAL = "state.json", "dataset_dict.json"


def is_one(folder: Path) -> bool:
    """Whether ``folder`` is such a data set, or several splits of one."""
    return any((folder / name).is_file() for name in (_OF_ONE, _OF_SEVERAL))


class Table:
    """The rows of ``folder``, one split; ``inputs`` and ``targets`` are a column, or several in a dict by name.

    Rows without a class number are bad. The memory is that of the class numbers.
    """

    def __init__(
        self, folder: Path, inputs: Wanted, targets: Wanted | None, pictures: Pictures, bad: BadSamples
    ) -> None:
        self._folder, self._inputs, self._targets, self._decoder = folder, inputs, targets, pictures
        whole = _opened(folder)
        self.features = whole.features
        names = list(dict.fromkeys([*wanted.names(inputs), *wanted.names(targets)]))
        if missing := [name for name in names if name not in whole.features]:
            raise BadUsage(f"{folder} has no column '{missing[0]}'.", f"Its columns are {', '.join(whole.features)}.")
        if any(is_picture(whole.features[name]) for name in wanted.names(targets)):
            raise BadUsage(f"A picture is the target of {folder}, and pictures are scaled and cut.", parts.MASKS)
        self._rows, self.labels = np.arange(len(whole)), None
        if isinstance(targets, str) and getattr(whole.features[targets], "dtype", "").startswith(("int", "uint")):
            self._rows, self.labels = self._labelled(whole, targets, bad)
            names = list(dict.fromkeys(wanted.names(inputs)))
        encoded = [name for name in names if is_picture(whole.features[name])]
        others = [name for name in names if name not in encoded]
        self._encoded = _with_bytes(whole.select_columns(encoded), encoded) if encoded else None
        self._others = whole.select_columns(others).with_format("numpy") if others else None

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, row: int) -> Sample:
        place = int(self._rows[row])
        name = f"row {place} of {self._folder}"
        try:
            found: dict[str, Any] = {} if self._others is None else dict(self._others[place])
            cells = {} if self._encoded is None else self._encoded[place]
        except Exception as error:  # pyarrow raises what it likes for bytes that are none of its own
            if is_of_the_machine(error):
                raise
            raise BadSample(f"{name} cannot be read") from error
        for column, value in found.items():
            floats = isinstance(value, (np.ndarray, np.floating)) and value.dtype.kind == "f"
            if value is None or (floats and not np.isfinite(value).all()):
                raise BadSample(f"{name} holds NaN, infinity or nothing in '{column}'")
        found |= {column: self._decoded(cell, name) for column, cell in cells.items()}
        inputs = wanted.filled(self._inputs, found.__getitem__)
        if self.labels is not None:
            return inputs, self.labels[row]
        return inputs, np.int64(0) if self._targets is None else wanted.filled(self._targets, found.__getitem__)

    def _decoded(self, cell: Mapping[str, Any] | None, what: str) -> Any:
        if cell is None:
            raise BadSample(f"{what} has no picture")
        if not cell["bytes"]:  # save_to_disk writes pictures into the table; another place is nobody's to read
            raise BadSample(f"{what} names a picture in another place")
        try:
            return self._decoder.decode(cell["bytes"], f"The picture in {what}")
        except BadUsage as error:
            raise BadSample(error.what.rstrip(".")) from error

    def _labelled(self, whole: Any, column: str, bad: BadSamples) -> tuple[Any, Any]:
        """The rows that have a class number, and those numbers."""
        cells = whole.select_columns([column]).with_format("arrow")[:][column].combine_chunks()
        there = np.asarray(cells.is_valid())
        bad.add(f"row {row} of {self._folder} has nothing in '{column}'" for row in np.flatnonzero(~there))
        rows = np.flatnonzero(there)
        return rows, np.asarray(cells.drop_null()).astype(np.int64)


class HuggingFaceData:
    """A folder of ``save_to_disk``: splits by their names, or one of which they are drawn.

    ``inputs`` and ``targets`` are a column, or several in a dict by name: pictures, numbers and arrays of them, texts.
    """

    def __init__(
        self,
        folder: Path | None,
        pictures: Pictures = Pictures(),  # noqa: B008
        *,
        inputs: Wanted = "image",
        targets: Wanted = "label",
        drawn: Drawn = Drawn(),  # noqa: B008
    ) -> None:
        if folder is None:
            raise BadUsage("The recipe reads a Hugging Face data set.", "Add --data DIR with what save_to_disk left.")
        if not is_one(folder):
            raise BadUsage(
                f"{folder} is no data set that save_to_disk of the package datasets left.",
                f"Look for {_OF_ONE} or {_OF_SEVERAL} in it.",
            )
        self._folder, self._inputs, self._targets = folder, inputs, targets
        self._how, self._drawn = pictures, drawn
        self._folders = by_split(folder)
        parts.require_train(self._folders, folder)

    def digest(self) -> str:
        """As :class:`.parts.StatDigest` says."""
        digest = StatDigest(self._how, self._drawn, self._inputs, self._targets)
        for split, folder in self._folders.items():
            for path in sorted(path for path in folder.iterdir() if path.is_file()):
                digest.add(f"{split}/{path.name}", path.stat())
        return str(digest)

    def load(self) -> Dataset:
        """The files are mapped, and of a column of class numbers all are read."""
        bad = BadSamples()
        found = {
            split: Table(folder, self._inputs, self._targets, self._how, bad) for split, folder in self._folders.items()
        }
        features = found["train"].features
        target = features[self._targets] if isinstance(self._targets, str) else None
        return self._drawn.dataset(
            found,
            bad=bad,
            classes=tuple(getattr(target, "names", None) or ()),
            scale=parts.scales(self._how, self._inputs, lambda name: is_picture(features[name])),
        )

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """The size, the cut and the scale of the pictures, where they are the only input."""
        features = _opened(self._folders["train"]).features
        only = isinstance(self._inputs, str) and is_picture(features[self._inputs])
        return self._how.save(folder) if only else []


def by_split(folder: Path) -> dict[str, Path]:
    """The folders of its splits; of one without splits it is the training."""
    if (folder / _OF_ONE).is_file():
        return {"train": folder}
    return parts.folders_of(sorted(folder.iterdir()))


def features_of(folder: Path) -> Mapping[str, Any]:
    """What the columns of one split hold."""
    features: Mapping[str, Any] = _opened(folder).features
    return features


def is_picture(feature: Any) -> bool:
    """Whether a column holds pictures."""
    return type(feature).__name__ == "Image"


def _opened(folder: Path) -> Any:
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder)).with_format(None)
    except Exception as error:  # pyarrow and json raise what they like for files that are damaged
        if is_of_the_machine(error):
            raise
        raise BadUsage(f"{folder} cannot be read: {error}.", "Save it again with save_to_disk.") from error


def _with_bytes(table: Any, columns: Iterable[str]) -> Any:
    """With pictures as they are stored: what decodes them says which one is bad."""
    from datasets import Image

    return functools.reduce(lambda cast, name: cast.cast_column(name, Image(decode=False)), columns, table)
