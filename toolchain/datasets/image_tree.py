"""Images in one folder per class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolchain.datasets import image_file
from toolchain.datasets.dataset import Split
from toolchain.errors import BadUsage
from toolchain.machine import usable_cores

SUFFIXES = {".jpg", ".jpeg", ".png"}


def images_in(folder: Path) -> list[Path]:
    """The .jpg, .jpeg and .png files of one folder, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def read(folder: Path, classes: Sequence[str], shape: tuple[int, int, int]) -> Split:
    """Decode ``folder/<class>/*`` into uint8 ``(N, C, H, W)``, where ``shape`` is (3, H, W); labels follow ``classes``.

    Raises BadUsage for a file that is no image or has another size, or when there are none.
    """
    _, height, width = shape

    def decode(path: Path) -> npt.NDArray[np.uint8]:
        pixels = image_file.decode(path, advice="Remove it, or unpack the data again.")
        if pixels.shape != (height, width, 3):
            raise BadUsage(f"{path} is {pixels.shape[1]} x {pixels.shape[0]}, not {width} x {height}.", "Remove it.")
        return pixels.transpose(2, 0, 1)

    labelled = [(path, label) for label, name in enumerate(classes) for path in images_in(folder / name)]
    if not labelled:
        raise BadUsage(f"{folder} has no .jpg or .png files in its class folders.", "Unpack the data again.")
    inputs = np.empty((len(labelled), *shape), np.uint8)
    with ThreadPoolExecutor(usable_cores()) as pool:  # pillow decodes outside the interpreter lock
        for index, pixels in enumerate(pool.map(decode, (path for path, _ in labelled))):
            inputs[index] = pixels
    return Split(inputs, np.array([label for _, label in labelled], np.int64))
