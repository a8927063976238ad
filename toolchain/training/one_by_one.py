"""Samples as a newcomer draws them: a Dataset whose __getitem__ transforms one sample, in a DataLoader."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from toolchain.datasets.dataset import Split
from toolchain.recipes import tensor_tree
from toolchain.recipes.recipe import Tensors
from toolchain.recipes.rows import Picked, Rows

Change = Callable[[Tensors, Any], tuple[Tensors, Any]]


def drawn(
    rows: Rows, split: Split, picked: Sequence[Picked], change: Change, generator: torch.Generator
) -> Iterable[tuple[Tensors, Any]]:
    """Inputs and targets of the rows of each batch of ``picked``, changed one by one where stacking makes the batch."""
    samples = _Samples(rows, split, change)
    batches = [each.tolist() for each in picked]
    return DataLoader(samples, batch_sampler=batches, generator=generator, collate_fn=samples.together)


class _Samples(TorchDataset[Any]):
    """Samples transformed one by one where nothing but stacking makes a batch of them, else their row numbers."""

    def __init__(self, rows: Rows, split: Split, change: Change) -> None:
        self._rows, self._split, self._change = rows, split, change

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, row: int) -> Any:
        if self._rows.recipe.collate is not None:
            return row
        inputs, targets = self._rows.stored(self._split, np.array([row]))
        inputs, targets = self._change(self._rows.scaled(inputs), targets)
        first = torch.Tensor.__getitem__
        return {name: first(tensor, 0) for name, tensor in inputs.items()}, tensor_tree.mapped(
            targets, lambda tensor: first(tensor, 0)
        )

    def together(self, samples: Sequence[Any]) -> tuple[Tensors, Any]:
        """Inputs and targets of one batch of what ``__getitem__`` gave."""
        if self._rows.recipe.collate is not None:
            return self._rows.stored(self._split, np.array(samples))
        inputs, targets = torch.utils.data.default_collate(list(samples))
        return inputs, targets
