"""The samples on which models are calibrated, compared and benchmarked: a recipe's, a file's, or made from a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtimes.base import TensorSpec
from runtimes.ort import OrtRuntime
from toolchain import sources
from toolchain.datasets import arrays
from toolchain.datasets.dataset import Dataset
from toolchain.errors import BadUsage
from toolchain.recipe import Recipe

LABELS = "labels"
"""The array of an ``.npz`` that is no input but the right answers."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """``inputs`` map names to ``(S, ...)`` as the model takes them; ``labels`` ``(S,)`` where there are any.

    ``real`` is false for values made from a seed, on which int8 models, calibrated for real ones, cannot be judged.
    """

    inputs: Mapping[str, npt.NDArray[np.generic]]
    labels: npt.NDArray[np.int64] | None
    source: str
    real: bool = True

    def __post_init__(self) -> None:
        counts = {name: len(array) if array.ndim else 0 for name, array in self.inputs.items()}
        if self.labels is not None:
            counts[LABELS] = len(self.labels) if self.labels.ndim else 0
        if not self.inputs or len(set(counts.values())) != 1 or not all(counts.values()):
            raise BadUsage(
                f"{self.source} has these numbers of samples: {counts}.",
                "Give every input, and the labels if any, the same number, at least one.",
            )

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def rows(self, chosen: npt.NDArray[np.int64], source: str | None = None) -> "Samples":
        """Only the chosen samples."""
        return Samples(
            inputs={name: array[chosen] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[chosen],
            source=source or self.source,
            real=self.real,
        )


def of_test_split(recipe: Recipe, data: Dataset, count: int | None = None) -> Samples:
    """The first ``count`` test samples, or all."""
    rows = slice(count)
    return Samples(
        inputs={recipe.input_name: data.model_inputs(data.test, rows)},
        labels=data.test.labels[rows],
        source=f"the test split of {recipe.name}",
    )


def of_train_split(recipe: Recipe, data: Dataset, count: int, *, seed: int = 0) -> Samples:
    """``count`` training samples drawn with ``seed``, not augmented: what calibration sees."""
    chosen = arrays.choose(len(data.train), count, seed=seed)
    return Samples(
        inputs={recipe.input_name: data.model_inputs(data.train, chosen)},
        labels=data.train.labels[chosen],
        source=f"the training split of {recipe.name}",
    )


def named(source: str, data_folder: Path | None, *, split: str, count: int | None = None) -> Samples:
    """Those of an ``.npz`` file (inputs by name, ``labels`` if any), or of a recipe's ``train`` or ``test`` split."""
    if sources.is_recipe(source):
        recipe = sources.recipe_named(source)
        data = recipe.data(data_folder).load()
        return (
            of_train_split(recipe, data, count or len(data.train))
            if split == "train"
            else of_test_split(recipe, data, count)
        )
    content = arrays.load_npz(Path(source))
    labels = content.pop(LABELS, None)
    if labels is not None and not np.issubdtype(labels.dtype, np.integer):
        raise BadUsage(f"The labels in {source} are {labels.dtype}.", "Save them as whole numbers, one class a sample.")
    given = Samples(inputs=content, labels=None if labels is None else labels.astype(np.int64), source=source)
    return given if count is None else given.rows(arrays.choose(len(given), count))


def for_calibration(source: str, data_folder: Path | None, *, count: int, held_out: int) -> tuple[Samples, Samples]:
    """(``count`` samples to calibrate on, up to ``held_out`` others to judge the result on).

    A recipe's come from its training and its test split. A file is drawn from at random; one of not more than
    ``count`` samples is split four fifths to one, and one of a single sample serves for both.
    """
    if sources.is_recipe(source):
        recipe = sources.recipe_named(source)
        data = recipe.data(data_folder).load()
        return of_train_split(recipe, data, count), of_test_split(recipe, data, held_out)
    given = named(source, None, split="train")
    total = len(given)
    used = min(count, max(1, total - max(1, total // 5)))
    order = np.random.default_rng(0).permutation(total)
    chosen, others = np.sort(order[:used]), np.sort(order[used : used + held_out])
    if not len(others):
        others = chosen
    return given.rows(chosen), given.rows(others, f"other samples of {source}")


def random_for_model(path: Path, count: int) -> Samples:
    """Seeded noise for the inputs of a model file."""
    runtime = OrtRuntime(path)
    runtime.open()
    return random_for(runtime.inputs, count)


def random_for(specs: Sequence[TensorSpec], count: int) -> Samples:
    """Seeded noise in the shape of ``specs``, dynamic axes but the batch at 16: for when nothing real is given."""
    random = np.random.default_rng(0)
    inputs: dict[str, npt.NDArray[np.generic]] = {}
    for spec in specs:
        batch = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else count
        shape = (batch, *(axis if isinstance(axis, int) else 16 for axis in spec.shape[1:]))
        if np.issubdtype(np.dtype(spec.dtype), np.floating):
            inputs[spec.name] = random.standard_normal(shape).astype(spec.dtype)
        else:
            inputs[spec.name] = random.integers(0, 2, shape).astype(spec.dtype)
    return Samples(inputs=inputs, labels=None, source="seeded random values", real=False)
