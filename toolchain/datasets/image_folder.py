"""Pictures as the input of an image model, preprocessed in torchvision's way for ImageNet."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.datasets import preparation
from toolchain.datasets.pictures import IMAGENET, Pictures
from toolchain.errors import BadUsage

PREPROCESSING = "resized, centre cropped, normalised by ImageNet's mean and deviation"
_CROP = 224 / 256


def pictures_for(shape: Sequence[int | str], source: str) -> Pictures:
    """Of the size that an input of this ``shape`` wants. BadUsage for one that takes no pictures of one size."""
    sides = tuple(shape[2:])
    if len(shape) != 4 or shape[1] != 3 or not all(isinstance(side, int) for side in sides):
        raise BadUsage(
            f"{source} holds images, and the model takes {list(shape)}.",
            "Images fit models that take N x 3 x H x W; give an .npz file, or file.py:factory.",
        )
    height, width = (int(side) for side in sides)
    return Pictures(size=(height, width), crop=_CROP)


def normalised(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """``(3, H, W)`` as a model of ImageNet takes it."""
    values = pixels.astype(np.float32) / 255
    mean, deviation = (np.array(each, np.float32)[:, np.newaxis, np.newaxis] for each in IMAGENET)
    return np.asarray((values - mean) / deviation)


def prepared_as(shape: Sequence[int | str]) -> dict[str, Any]:
    """What both together do to an image, for a device; ``shape`` is the model's input."""
    height, width = (int(side) for side in shape[2:])
    return preparation.of_image((3, height, width), mean=IMAGENET[0], std=IMAGENET[1], crop=_CROP)
