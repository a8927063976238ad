"""Samples out of pictures, tar shards and tables in files: as many are read as are wanted, drawn by a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.feeds import SampleArray
from runtimes.base import FEEDABLE, TensorSpec
from toolchain.datasets import arrays, arrow_folder, class_folders, image_folder, members, parts, shards, tar_index
from toolchain.datasets.bad_samples import BadSamples
from toolchain.datasets.on_demand import OnDemand, Store
from toolchain.datasets.pictures import Pictures
from toolchain.errors import BadUsage

_LABELS = ("label", "labels")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A store whose samples are inputs by name of a model with ``specs``.

    ``pictures`` says that they are to be normalised, ``classes`` what the class numbers mean.
    """

    store: Store
    bad: BadSamples
    specs: Sequence[TensorSpec]
    pictures: bool
    classes: tuple[str, ...] = ()

    def read(self, count: int) -> tuple[dict[str, SampleArray], npt.NDArray[np.int64] | None, str]:
        """At most ``count`` samples by input, drawn by a seed, their labels if any, and what is to be said of them."""
        chosen = arrays.choose(len(self.store), count)
        samples = list(OnDemand(self.store, chosen, self.bad).good())
        if not samples:
            raise BadUsage("None of the samples can be read.", "Look at the files.")
        said = f", {image_folder.PREPROCESSING}" if self.pictures else ""
        if self.bad.found:
            said += f"; {len(self.bad.found)} that cannot be read left out: {'; '.join(self.bad.found[:3])}"
        labels = None if self.store.labels is None else np.array([label for _, label in samples], np.int64)
        made = _pictures if self.pictures else _together
        return (
            {spec.name: made([inputs[spec.name] for inputs, _ in samples], spec) for spec in self.specs},
            labels,
            said,
        )


def is_one(source: str) -> bool:
    """Whether ``source`` names a folder, or tar shards."""
    return Path(source).is_dir() or source.endswith(".tar")


def opened(source: str, specs: Sequence[TensorSpec], *, split: str) -> Opened:
    """What lies there for a model with these inputs: of a source in parts the one for ``split``.

    An input is the member ``KEY.INPUT.npy`` or the column of its name; the only input may be a picture, or a single
    ``.npy``. BadUsage for what fits none of them.
    """
    path, bad = Path(source), BadSamples()
    if source.endswith(".tar") or any(path.glob("*.tar")) or any(path.glob("*/*.tar")):
        return _of_shards(source, specs, split, bad)
    if arrow_folder.is_one(path):
        return _of_table(path, specs, split, bad)
    pictures, name = image_folder.pictures_for(specs[0].shape, source), specs[0].name
    found = class_folders.without_parts(path, pictures)
    if not len(found) and (folders := parts.folders_of(each for each in path.iterdir() if each.is_dir())):
        found = class_folders.without_parts(parts.nearest(folders, split), pictures)
    if not len(found):
        raise BadUsage(f"{path} has no .jpg or .png files.", "Give a folder of images, or of class folders.")
    classes = () if found.labels is None else found.classes
    return Opened(store=_Named(found, name), bad=bad, specs=specs, pictures=True, classes=classes)


def _of_shards(source: str, specs: Sequence[TensorSpec], split: str, bad: BadSamples) -> Opened:
    files = parts.nearest(shards.by_split(source), split)
    kinds = tar_index.of(files[0]).kinds
    wanted = {spec.name: f"{spec.name.lower()}.npy" for spec in specs}
    only = specs[0].name
    if not set(wanted.values()) <= set(kinds):
        pictures = [kind for kind in kinds if kind in members.PICTURES]
        single = "npy" if "npy" in kinds else ";".join(pictures)
        wanted = {only: single} if single and len(specs) == 1 else {}
    if not wanted:
        raise BadUsage(
            f"{source} has members .{', .'.join(kinds)}, and the model takes {', '.join(spec.name for spec in specs)}.",
            "Name the array of an input KEY.INPUT.npy; a picture, KEY.jpg, fits a model that takes one.",
        )
    are_pictures = members.is_picture(wanted[only].partition(";")[0])
    how = image_folder.pictures_for(specs[0].shape, source) if are_pictures else Pictures()
    store = shards.Shards(files, wanted, "cls" if "cls" in kinds else None, how, bad)
    return Opened(store=store, bad=bad, specs=specs, pictures=are_pictures)


def _of_table(path: Path, specs: Sequence[TensorSpec], split: str, bad: BadSamples) -> Opened:
    folder = parts.nearest(arrow_folder.by_split(path), split)
    features = arrow_folder.features_of(folder)
    pictures = [name for name, feature in features.items() if arrow_folder.is_picture(feature)]
    wanted = {spec.name: spec.name for spec in specs}
    if not set(wanted) <= set(features):
        wanted = {specs[0].name: pictures[0]} if len(specs) == len(pictures) == 1 else {}
    if not wanted:
        raise BadUsage(
            f"{path} has columns {', '.join(features)}, and the model takes {', '.join(spec.name for spec in specs)}.",
            "Rename the columns to the inputs; a picture fits a model that takes one.",
        )
    are_pictures = wanted[specs[0].name] in pictures
    how = image_folder.pictures_for(specs[0].shape, str(path)) if are_pictures else Pictures()
    labels = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel" or name in _LABELS]
    labels = [name for name in labels if name not in wanted.values()]
    store = arrow_folder.Table(folder, wanted, labels[0] if labels else None, how, bad)
    classes = tuple(getattr(features[labels[0]], "names", None) or ()) if labels else ()
    return Opened(store=store, bad=bad, specs=specs, pictures=are_pictures, classes=classes)


class _Named:
    """A store of single inputs, with the name of the input."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.labels = store.labels

    def __len__(self) -> int:
        return len(self._store)

    def read(self, row: int) -> tuple[Mapping[str, Any], Any]:
        value, label = self._store.read(row)
        return {self._name: value}, label


def _pictures(values: Sequence[npt.NDArray[np.uint8]], spec: TensorSpec) -> SampleArray:
    images = np.empty((len(values), *values[0].shape), np.float32)
    for image, pixels in zip(images, values, strict=True):
        image[...] = image_folder.normalised(pixels)
    return images


def _together(values: Sequence[Any], spec: TensorSpec) -> SampleArray:
    """Of the input's type, where they are numbers of its kind: a table has whole numbers of 64 bits alone."""
    found = [np.asarray(value) for value in values]
    if spec.dtype in FEEDABLE and np.dtype(spec.dtype).kind == found[0].dtype.kind:
        found = [each.astype(spec.dtype, copy=False) for each in found]
    return np.stack(found) if len({each.shape for each in found}) == 1 else found
