"""The samples on which models are calibrated, compared and benchmarked: a recipe's, a file's, or made from a seed."""

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exporters import feeds
from exporters.batch_axes import BatchAxes
from exporters.feeds import SampleArray, SampleSet
from exporters.model_file import ModelFile
from runtimes.base import TensorSpec
from toolchain.accuracy import targets
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.metric import Metric
from toolchain.accuracy.targets import Targets
from toolchain.datasets import arrays
from toolchain.datasets.dataset import Dataset, Split
from toolchain.errors import BadUsage
from toolchain.inputs import overlap, sources, stored

if TYPE_CHECKING:  # what a recipe needs imports PyTorch, a second that samples from a file do without
    from toolchain.recipes.recipe import Recipe
    from toolchain.recipes.rows import Rows

LABELS = "labels"
TARGETS = "targets"
"""Arrays of an ``.npz`` that are no input but the right answers; ``targets.NAME`` is one of several."""

MOST_JUDGED = 10_000
"""How many samples are taken at most where all are asked for, of a folder of images, of a factory that may go on for
ever, and of what is left of a file: they are held in memory, and so take at most ``MOST_JUDGED_BYTES``."""
MOST_JUDGED_BYTES = 10**9


@dataclass(frozen=True, kw_only=True)
class Samples:
    """``inputs`` as :data:`exporters.feeds.SampleSet` says; ``labels`` are the right answers where there are any.

    Without another metric each is a class number ``(S,)``; else they are of any type: one array ``(S, ...)``, a list of
    S arrays of unequal shapes, or several of these by name.

    ``layout`` says what they are to their model; without it the first axis of every input counts samples. ``real`` is
    false for values made from a seed, on which int8 models, calibrated for real ones, cannot be judged.
    """

    inputs: SampleSet
    labels: Targets | None
    source: str
    real: bool = True
    layout: BatchAxes | None = None

    def __post_init__(self) -> None:
        counts = {
            name: 0 if isinstance(array, np.ndarray) and not array.ndim else len(array)
            for name, array in self.inputs.items()
            if not feeds.is_shared(array, name, self.axes)
        } or dict.fromkeys(self.inputs, 1)
        if self.labels is not None:
            counts[LABELS] = targets.count(self.labels)
        if not self.inputs or len(set(counts.values())) != 1 or not all(counts.values()):
            raise BadUsage(
                f"{self.source} has these numbers of samples: {counts}.",
                "Give every input, and the labels if any, the same number, at least one.",
            )

    def __len__(self) -> int:
        return feeds.count_of(self.inputs, self.axes)

    @property
    def axes(self) -> BatchAxes:
        """Which axis of each input counts samples once they are stacked."""
        return self.layout or BatchAxes(dict.fromkeys(self.inputs, 0), {}, None)

    @property
    def by_row(self) -> SampleSet:
        """``inputs`` with what all samples share as often as there are samples."""
        return feeds.expanded(self.inputs, self.axes)

    @cached_property
    def digests(self) -> overlap.Digests:
        """One of each sample's content."""
        return overlap.digests(self.by_row)

    @property
    def sha256(self) -> str:
        """Of all samples, in order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of the inputs, the first axis counting samples; where lengths differ the first sample's."""
        return {name: (len(array), *array[0].shape) for name, array in self.by_row.items()}

    def first(self, count: int, *, multiple: int = 1, of: npt.NDArray[np.int64] | None = None) -> "Samples":
        """The first ``count`` (``of`` these rows), rounded up to whole batches of ``multiple``, or all."""
        rows = np.arange(len(self)) if of is None else of
        return self.rows(rows[: -(-count // multiple) * multiple])

    def rows(self, chosen: npt.NDArray[np.int64], source: str | None = None) -> "Samples":
        """Only the chosen samples."""
        return Samples(
            inputs={
                name: array if feeds.is_shared(array, name, self.axes) else feeds.chosen(array, chosen)
                for name, array in self.inputs.items()
            },
            labels=None if self.labels is None else targets.taken(self.labels, chosen),
            source=source or self.source,
            real=self.real,
            layout=self.layout,
        )

    def call(self, size: int = 1) -> dict[str, npt.NDArray[Any]]:
        """What one call of the model takes: the first sample, or as many like it as ``size`` says."""
        return feeds.stacked(self.inputs, self.axes, feeds.like(self.inputs, self.axes, 0, size))


def require_answers(metric: Metric, samples: Samples) -> None:
    """Raise BadUsage where a metric that somebody named has nothing to judge by."""
    if metric is not TOP1 and samples.labels is None:
        raise BadUsage(
            f"{metric.name} has nothing to judge by: {samples.source} holds no right answers.",
            f"Save them beside the inputs, as the array '{TARGETS}', or leave --metric out.",
        )


def of_test_split(recipe: "Recipe", data: Dataset, count: int | None = None) -> Samples:
    """The first ``count`` test samples, or all: of those that are read on demand, as many as may be held in memory."""
    from toolchain.recipes.rows import Rows

    rows = Rows(recipe, data)
    chosen = np.arange(_at_most(rows, data.test, count))
    return _of_rows(rows, data.test, chosen, f"the test split of {recipe.name}")


def of_train_split(recipe: "Recipe", data: Dataset, count: int | None, *, seed: int = 0) -> Samples:
    """``count`` training samples drawn with ``seed``, not augmented: what calibration sees; None as for the test."""
    from toolchain.recipes.rows import Rows

    rows = Rows(recipe, data)
    chosen = arrays.choose(len(data.train), _at_most(rows, data.train, count), seed=seed)
    return _of_rows(rows, data.train, chosen, f"the training split of {recipe.name}")


def _at_most(rows: "Rows", split: Split, count: int | None) -> int:
    wanted = len(split) if count is None else min(count, len(split))
    if split.reader is None:
        return wanted
    inputs, _ = rows.arrays(split, np.arange(1))
    return min(wanted, _most(sum(np.asarray(each[0]).nbytes for each in inputs.values())))


def _of_rows(rows: "Rows", split: Split, chosen: npt.NDArray[np.int64], source: str) -> Samples:
    inputs, answers = rows.arrays(split, chosen)
    if split.reader is not None and len(chosen) < len(split):
        source = f"{len(chosen):,} of the {len(split):,} of {source}"
    return Samples(inputs=inputs, labels=answers, source=source)


def named(
    source: str,
    data_folder: Path | None,
    *,
    split: str,
    count: int | None = None,
    model: ModelFile | None = None,
    metric: Metric = TOP1,
) -> Samples:
    """What a user's ``source`` stands for, ``count`` of its samples or all:

    a recipe (its ``train`` or ``test`` split), an ``.npz`` file (inputs by name, ``labels`` or ``targets`` if any, or
    several as ``targets.NAME``), an ``.npy`` file (the one input), a folder of images, tar shards, a Hugging Face data
    set (:mod:`.stored`), or ``file.py:factory``, called without arguments, that yields dicts of arrays (its first
    samples; of the others a seed draws). Without ``count`` files of samples and code give MOST_JUDGED. ``model`` tells
    what an array or an image is an input of. Right answers are of any type that ``metric`` takes, and hold no NaN.
    """
    path = Path(source)
    if sources.is_recipe(source):
        recipe = sources.recipe_named(source)
        data = recipe.data(data_folder).load()
        return of_train_split(recipe, data, count) if split == "train" else of_test_split(recipe, data, count)
    if stored.is_one(source):
        specs = _specs(model, source)
        most = _most(4 * sum(map(_elements, specs)))
        inputs, found, said = stored.opened(source, specs, split=split).read(count or most)
        return Samples(inputs=inputs, labels=found, source=f"{source}{said}")
    layout = None if model is None else model.batch_axes
    content: dict[str, SampleArray] = {}
    if sources.is_code(source):
        content |= arrays.gather(_called(source), source, count or MOST_JUDGED, layout)
    else:
        content |= arrays.load(path, [spec.name for spec in _specs(model, source)] if path.suffix == ".npy" else [])
    labels = _targets(content, {} if layout is None else layout.inputs, source, metric)
    if layout is not None:
        content = dict(feeds.samples_first(content, layout))
    given = Samples(inputs=content, labels=labels, source=source, layout=layout)
    return given if count is None or count >= len(given) else given.rows(arrays.choose(len(given), count))


def _targets(content: dict[str, SampleArray], inputs: Collection[str], source: str, metric: Metric) -> Targets | None:
    """The right answers, taken out of ``content``; arrays of an input's name are that input's."""
    named = [name for name in content if name not in inputs and name.partition(".")[0] in (LABELS, TARGETS)]
    if not named:
        return None
    found: dict[str, Any] = {name.partition(".")[2]: content.pop(name) for name in named}
    if len(found) < len(named) or (len(found) > 1 and "" in found):
        raise BadUsage(f"{source} has the right answers twice: {', '.join(sorted(named))}.", "Save one of them.")
    labels: Targets = found.get("", found)
    if metric is TOP1 and not isinstance(labels, Mapping):
        labels = _classes(labels, source)
    targets.require_numbers(labels, source)
    return labels


def _classes(labels: Any, source: str) -> npt.NDArray[np.generic]:
    """One class number a sample, in whatever whole numbers; BadUsage for what is none."""
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    what = "of unequal shapes"
    if isinstance(labels, np.ndarray):
        what = f"{labels.dtype}[{', '.join(map(str, labels.shape))}]"
    mend = "Save one whole number a sample, its class"
    if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.shape[1] > 1:
        mend += "; labels.argmax(axis=1) of one-hot rows, and leave out labels that name several classes"
    raise BadUsage(f"The labels in {source} are {what}.", f"{mend}; or name the --metric that they are for.")


def for_calibration(
    source: str,
    data_folder: Path | None,
    *,
    count: int,
    model: ModelFile,
    evaluation: str | None = None,
    metric: Metric = TOP1,
) -> tuple[Samples, Samples]:
    """(``count`` samples to calibrate on, others to judge the result on), which share none.

    The others are those of ``evaluation``; without it a recipe's test split, or what is left of a file: one of not
    more than ``count`` samples is split four fifths to one, and one of a single sample serves for both. BadUsage when
    the user's own choice overlaps; what a data set has twice is left out of the calibration.
    """
    if evaluation is None and not sources.is_recipe(source):
        return _split(named(source, data_folder, split="train", model=model, metric=metric), count)
    judged = named(evaluation or source, data_folder, split="test", model=model, metric=metric)
    chosen = named(source, data_folder, split="train", count=count, model=model, metric=metric)
    if sources.is_recipe(source):
        return apart(chosen, judged), judged
    overlap.refuse(chosen.digests, judged.digests)
    return chosen, judged


def apart(chosen: Samples, judged: Samples) -> Samples:
    """``chosen`` without what is in ``judged`` too, for data sets in which that is not the user's doing."""
    return chosen.rows(overlap.without(chosen.digests, judged.digests))


def _split(given: Samples, count: int) -> tuple[Samples, Samples]:
    total = len(given)
    whole = 1 if feeds.run_alone(given.inputs, given.axes) else given.axes.fixed or 1
    used = min(count, max(1, total - max(1, total // 5)))
    used = max(used // whole * whole, min(whole, total))
    order = np.random.default_rng(0).permutation(total)
    most = _most(sum(array[0].nbytes for array in given.by_row.values()))
    chosen, others = given.rows(np.sort(order[:used])), np.sort(order[used : used + most])
    if len(others) < whole:
        return chosen, chosen
    rest = given.rows(others, f"other samples of {given.source}")
    return apart(chosen, rest), rest


def _most(bytes_per_sample: int) -> int:
    return max(1, min(MOST_JUDGED, MOST_JUDGED_BYTES // max(bytes_per_sample, 1)))


def _elements(spec: TensorSpec) -> int:
    """Of one sample; axes of unknown length count as 1."""
    return math.prod(axis for axis in spec.shape[1:] if isinstance(axis, int))


def _specs(model: ModelFile | None, source: str) -> Sequence[TensorSpec]:
    """The inputs of ``model``."""
    if model is None:
        raise BadUsage(f"{source} does not say which input it is.", "Give an .npz file with one array per input.")
    return specs_of(model)


def specs_of(model: ModelFile) -> Sequence[TensorSpec]:
    """The model's inputs."""
    return [TensorSpec(value.name, value.dtype, value.shape) for value in model.inputs]


def _called(source: str) -> Iterator[Any]:
    """What the user's code yields; whatever it raises is theirs to mend."""
    factory = sources.attribute_named(source)
    if not callable(factory):
        raise BadUsage(f"{source} is a {type(factory).__name__}.", "Name a function that yields dicts of arrays.")
    try:
        yield from factory()
    except Exception as error:
        raise BadUsage(f"{source} failed: {type(error).__name__}: {error}.", "Run it with python first.") from error
