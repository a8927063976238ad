"""scikit-learn's handwritten digits: 1,797 real 8 x 8 images, embedded in the library."""

from pathlib import Path

import numpy as np

from toolchain import machine
from toolchain.datasets import preparation
from toolchain.datasets.dataset import Dataset, Scale, Split, shuffled_parts

_SEED = 42
_MEAN, _STD = (0.305,), (0.376,)


class Digits:
    """60 % train, 20 % validation, 20 % test, drawn once with a fixed seed; inputs ``(N, 1, 8, 8)`` uint8, 0 to 16."""

    def digest(self) -> str:
        return f"digits of scikit-learn {machine.library_versions()['scikit-learn']}, seed {_SEED}"

    def load(self) -> Dataset:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        inputs = images.reshape(-1, 1, 8, 8).astype(np.uint8)
        labels = labels.astype(np.int64)
        train, rest = shuffled_parts(len(labels), 0.6, seed=_SEED)
        validation, test = np.array_split(rest, 2)
        return Dataset(
            train=Split(inputs[train], labels[train]),
            validation=Split(inputs[validation], labels[validation]),
            test=Split(inputs[test], labels[test]),
            classes=tuple("0123456789"),
            scale=Scale(divisor=16.0, mean=_MEAN, std=_STD),
        )

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """A picture's white is the 16 of these images."""
        return [preparation.save(folder, preparation.of_image((1, 8, 8), mean=_MEAN, std=_STD))]
