"""A recipe's samples as tensors: picked by their row numbers, collated, scaled to what the model takes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toolchain.datasets.dataset import Array, Column, Columns, Dataset, Scale, Split, columns_of
from toolchain.datasets.on_demand import Sample
from toolchain.errors import BadUsage
from toolchain.recipes import tensor_tree
from toolchain.recipes.recipe import Recipe, Tensors, named_inputs, part

Picked = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """How rows of the splits of ``data`` become inputs of ``recipe``'s model, and targets of its loss."""

    recipe: Recipe
    data: Dataset

    def stored(self, split: Split, rows: Picked) -> tuple[Tensors, Any]:
        """Host tensors ``(len(rows), ...)`` by name, unscaled, in memory of their own; and the targets.

        Raises BadUsage for what is no tensor, or of unequal shapes, without a ``collate``, and for one that fails.
        """
        (found,) = self.each(split, [rows])
        return found

    def each(self, split: Split, chosen: Iterable[Picked]) -> Iterator[tuple[Tensors, Any]]:
        """:meth:`stored` of one batch of rows after the other; what is on a disk is read some batches ahead."""
        if split.reader is not None:
            for rows, samples in split.reader.ahead(chosen):
                if self.recipe.collate is not None:
                    yield self._collated(samples, rows)
                else:
                    inputs, targets = (_column([sample[half] for sample in samples]) for half in (0, 1))
                    yield self._taken(inputs, targets, np.arange(len(rows)))
            return
        for rows in chosen:
            if self.recipe.collate is not None:
                yield self._collated(
                    [(_sample(split.inputs, int(row)), _sample(split.targets, int(row))) for row in rows], rows
                )
            else:
                yield self._taken(split.inputs, split.targets, rows)

    def _taken(self, inputs: Columns, targets: Columns, rows: Picked) -> tuple[Tensors, Any]:
        tensors = {
            name: _picked(column, rows, f"input '{name}'")
            for name, column in columns_of(inputs, self.recipe.input_name).items()
        }
        if isinstance(targets, Mapping):
            picked: Any = {name: _picked(each, rows, f"target '{name}'") for name, each in targets.items()}
        else:
            picked = _picked(targets, rows, "target")
        return tensors, tensor_tree.as_targets(picked)

    def scaled(self, inputs: Tensors) -> Tensors:
        """As the model takes them: floats as float32, ids as they are."""
        scale = self.data.scale
        if isinstance(scale, Scale):
            if len(inputs) > 1 and scale != Scale():
                raise BadUsage(
                    f"The data set has one scale and the inputs {', '.join(inputs)}.",
                    "Give a dict: input name -> Scale.",
                )
            return {name: scale(tensor) for name, tensor in inputs.items()}
        if strange := [name for name in scale if name not in inputs]:
            raise BadUsage(f"There is a scale for '{strange[0]}', no input.", f"The inputs are {', '.join(inputs)}.")
        return {name: scale.get(name, Scale())(tensor) for name, tensor in inputs.items()}

    def batch(self, split: Split, rows: Picked, device: str) -> tuple[Tensors, Any]:
        """What the model takes of these rows, on ``device``, and their targets as arrays."""
        (found,) = self.batches(split, [rows], device)
        return found

    def batches(self, split: Split, chosen: Iterable[Picked], device: str) -> Iterator[tuple[Tensors, Any]]:
        """:meth:`batch` of one batch of rows after the other."""
        for inputs, targets in self.each(split, chosen):
            yield self.scaled({name: tensor.to(device) for name, tensor in inputs.items()}), _arrays(targets)

    def arrays(self, split: Split, rows: Picked | None = None) -> tuple[dict[str, Array | list[Array]], Any]:
        """What the model takes, by name, of the rows chosen or of all: ``(N, ...)``; and their targets.

        With a collate each sample is brought together alone, so that none is padded for another's sake; where they are
        of unequal shapes, they are a list.
        """
        rows = np.arange(len(split)) if rows is None else rows
        if self.recipe.collate is None:
            stored, targets = self.stored(split, rows)
            return {name: tensor.numpy() for name, tensor in self.scaled(stored).items()}, _arrays(targets)
        alone = self.each(split, (rows[place : place + 1] for place in range(len(rows))))
        calls, answers = zip(*[(self.scaled(inputs), _arrays(targets)) for inputs, targets in alone], strict=True)
        together: Any
        if isinstance(answers[0], Mapping):
            together = {name: _together([one[name] for one in answers]) for name in answers[0]}
        else:
            together = _together(answers)
        return {name: _together([call[name].numpy() for call in calls]) for name in calls[0]}, together

    def _collated(self, samples: Sequence[Sample], rows: Picked) -> tuple[Tensors, Any]:
        assert self.recipe.collate is not None
        with part(f"collate of {_listed(rows)}"):
            made = self.recipe.collate(samples)
        if not isinstance(made, tuple) or len(made) != 2:
            raise BadUsage(f"The recipe's collate returns a {type(made).__name__}.", "Let it return (inputs, targets).")
        inputs = named_inputs(tensor_tree.of_arrays(made[0]), self.recipe)
        for name, tensor in inputs.items():
            if not isinstance(tensor, torch.Tensor):
                raise BadUsage(
                    f"The recipe's collate makes a {type(tensor).__name__} of the input '{name}'.",
                    "Let it make tensors (N, ...).",
                )
            if not tensor.ndim or len(tensor) != len(rows) or not tensor.numel():
                raise BadUsage(
                    f"The recipe's collate makes '{name}' {list(tensor.shape)} of {len(rows)} samples.",
                    "Let its first axis count them, and leave none empty.",
                )
        return inputs, tensor_tree.as_targets(tensor_tree.of_arrays(made[1]))


def _picked(column: Column, rows: Picked, what: str) -> torch.Tensor:
    """A copy of the rows chosen."""
    if isinstance(column, np.ndarray):
        values: npt.NDArray[Any] = np.ascontiguousarray(column[rows])
    else:
        found = [np.asarray(column[int(row)]) for row in rows]
        if len(shapes := {each.shape for each in found}) > 1:
            raise BadUsage(
                f"Samples of the {what} are of unequal shapes, such as {' and '.join(map(str, sorted(shapes)[:2]))}.",
                "Give the recipe a collate, which pads them.",
            )
        values = np.stack(found)
    try:
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
    except TypeError as error:
        raise BadUsage(
            f"The {what} is stored as {values.dtype}, which no tensor holds.",
            "Store numbers, or give the recipe a collate, which makes some of them.",
        ) from error


def _column(values: list[Any]) -> Columns:
    """Several in a dict by name where each is one."""
    if isinstance(values[0], Mapping):
        return {name: [value[name] for value in values] for name in values[0]}
    return values


def _sample(columns: Columns, row: int) -> Any:
    if isinstance(columns, Mapping):
        return {name: column[row] for name, column in columns.items()}
    return columns[row]


def _together(parts: Sequence[Any]) -> Any:
    """Batches of one sample: one array, or a list of samples where their shapes differ or they are no arrays."""
    if not isinstance(parts[0], np.ndarray):
        return [sample for part in parts for sample in part]
    if len({part.shape for part in parts}) == 1 and parts[0].ndim:
        return np.concatenate(parts)
    return [part[0] if part.ndim else part for part in parts]


def _arrays(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.numpy()
    return {name: _arrays(value) for name, value in tree.items()} if isinstance(tree, Mapping) else tree


def _listed(rows: Picked) -> str:
    if len(rows) == 1:
        return f"row {rows[0]}"
    return f"rows {', '.join(map(str, rows[:3]))}{' and others' if len(rows) > 3 else ''}"
