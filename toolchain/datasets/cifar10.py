"""CIFAR-10 (Krizhevsky 2009) from a folder in either public form."""

from pathlib import Path

from toolchain.datasets import cifar10_batches, image_tree, preparation
from toolchain.datasets.dataset import Dataset, Scale, Split, digest_of_files, shuffled_parts
from toolchain.errors import BadUsage

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_SHAPE = (3, 32, 32)
_VALIDATION_SHARE = 0.04
_SEED = 42
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Cifar10:
    """``cifar-10-batches-py`` (or a folder that holds it), or an image tree ``train/<class>/*``, ``test/<class>/*``.

    2,000 of the 50,000 training images become the validation split. Inputs ``(N, 3, 32, 32)`` uint8.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            raise BadUsage(
                "The recipe cifar10 needs its images.", "Add --data DIR with the folder that holds CIFAR-10."
            )
        self._folder = folder / "cifar-10-batches-py" if (folder / "cifar-10-batches-py").is_dir() else folder
        self._is_batches = (self._folder / "test_batch").exists()
        if not self._is_batches:
            missing = [
                f"{part}/{name}" for part in ("train", "test") for name in CLASSES
                if not (self._folder / part / name).is_dir()
            ]  # fmt: skip
            if missing:
                raise BadUsage(
                    f"{folder} does not hold CIFAR-10: looked for cifar-10-batches-py/test_batch, "
                    f"and for the folders train/<class> and test/<class>, of which {len(missing)} of 20 are missing "
                    f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}).",
                    "Give the folder that either form was unpacked into.",
                )

    def digest(self) -> str:
        return digest_of_files(self._files(), self._folder)

    def load(self) -> Dataset:
        if self._is_batches:
            train = cifar10_batches.read(self._folder, _TRAIN_BATCHES)
            test = cifar10_batches.read(self._folder, ("test_batch",))
        else:
            train = image_tree.read(self._folder / "train", CLASSES, _SHAPE)
            test = image_tree.read(self._folder / "test", CLASSES, _SHAPE)
        chosen, validation = shuffled_parts(len(train), 1 - _VALIDATION_SHARE, seed=_SEED)
        return Dataset(
            train=Split(train.inputs[chosen], train.targets[chosen]),
            validation=Split(train.inputs[validation], train.targets[validation]),
            test=test,
            classes=CLASSES,
            scale=Scale(divisor=255.0, mean=_MEAN, std=_STD),
        )

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """The scale, and the size of the images."""
        return [preparation.save(folder, preparation.of_image(_SHAPE, mean=_MEAN, std=_STD))]

    def _files(self) -> list[Path]:
        if self._is_batches:
            return [self._folder / name for name in (*_TRAIN_BATCHES, "test_batch") if (self._folder / name).exists()]
        folders = [self._folder / part / name for part in ("train", "test") for name in CLASSES]
        return [file for folder in folders for file in image_tree.images_in(folder)]
