"""A folder of images as the input of an image model, preprocessed in torchvision's way for ImageNet."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain import regular_file
from toolchain.datasets import arrays, preparation
from toolchain.datasets.image_tree import images_in
from toolchain.datasets.pictures import IMAGENET, Pictures
from toolchain.errors import BadUsage
from toolchain.machine import usable_cores

PREPROCESSING = "resized, centre cropped, normalised by ImageNet's mean and deviation"
_CROP = 224 / 256
Images = npt.NDArray[np.float32]


def load(folder: Path, shape: Sequence[int | str], count: int | None) -> tuple[Images, npt.NDArray[np.int64] | None]:
    """(``(S, 3, H, W)`` fp32, labels ``(S,)`` or None) of at most ``count`` images below ``folder``, drawn by a seed.

    Class folders, sorted by name, give the labels; images right in ``folder`` have none. ``shape`` is the model's
    input, whose last three axes must be 3 x H x W. Raises BadUsage for another one, for a folder without images, and
    for a file that is no image.
    """
    sides = tuple(shape[2:])
    if len(shape) != 4 or shape[1] != 3 or not all(isinstance(side, int) for side in sides):
        raise BadUsage(
            f"{folder} is a folder of images, and the model takes {list(shape)}.",
            "Images fit models that take N x 3 x H x W; give an .npz file, or file.py:factory.",
        )
    classes = classes_in(folder)
    labelled = [(path, label) for label, name in enumerate(classes) for path in images_in(name)]
    paths = [path for path, _ in labelled] or images_in(folder)
    if not paths:
        raise BadUsage(f"{folder} has no .jpg or .png files.", "Give a folder of images, or of class folders.")
    chosen = arrays.choose(len(paths), count if count is not None else len(paths))
    height, width = (int(side) for side in sides)
    images = np.empty((len(chosen), 3, height, width), np.float32)
    with ThreadPoolExecutor(usable_cores()) as pool:  # pillow decodes outside the interpreter lock
        decoded = pool.map(lambda row: _decode(paths[row], height, width), chosen)
        for index, pixels in enumerate(decoded):
            images[index] = pixels
    labels = np.array([label for _, label in labelled], np.int64)[chosen] if labelled else None
    return images, labels


def classes_in(folder: Path) -> list[Path]:
    """The folders of images, whose order is that of the class numbers."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and images_in(path))


def prepared_as(shape: Sequence[int | str]) -> dict[str, Any]:
    """What :func:`load` does to an image, for a device; ``shape`` is the model's input."""
    height, width = (int(side) for side in shape[2:])
    return preparation.of_image((3, height, width), mean=IMAGENET[0], std=IMAGENET[1], crop=_CROP)


def _decode(path: Path, height: int, width: int) -> Images:
    pixels = Pictures(size=(height, width), crop=_CROP).decode(regular_file.read_bytes(path), str(path))
    values = pixels.astype(np.float32) / 255
    mean, deviation = (np.array(each, np.float32)[:, np.newaxis, np.newaxis] for each in IMAGENET)
    return np.asarray((values - mean) / deviation)
