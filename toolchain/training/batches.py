"""Training batches: drawn, transformed, mixed and brought to the device."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from toolchain.datasets.dataset import IDS, Dataset
from toolchain.errors import BadUsage
from toolchain.recipes import tensor_tree
from toolchain.recipes.recipe import Recipe, Tensors, named_inputs, part
from toolchain.recipes.rows import Picked, Rows
from toolchain.training.mixup import Mix, drawn_mix
from toolchain.training.options import TrainingOptions
from toolchain.training.same_draws import SameDraws
from toolchain.training.world import ALONE, World


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop`` of the ``count`` of one step: a process's share of them, or one part of that."""

    start: int
    stop: int
    count: int
    begins: bool = True
    ends: bool = True

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def is_all(self) -> bool:
        return self.rows == self.count


@dataclass(frozen=True)
class Batch:
    """``inputs`` by name, each ``(B, ...)``, and the ``targets`` of its rows; ``mix`` says how they are mixed.

    A mixed batch's inputs are mixed already, its targets are not: its loss is. ``piece`` says of which step it is what.
    """

    inputs: Tensors
    targets: Any
    piece: Piece
    mix: Mix | None = None

    @property
    def rows(self) -> int:
        return self.piece.rows


@dataclass(frozen=True)
class BatchPath:
    """How samples travel from the data set to a training step: draw -> place -> finish.

    :meth:`draw` takes stored rows on the host, :meth:`place` copies them to the device, :meth:`finish` makes model
    inputs of them there, in half precision under AMP where the recipe's ``cast_inputs`` allows it. Each epoch's order,
    augmentation and mixing follow from the seed and the epoch alone, so a resumed run sees what an unbroken one would
    have. In a ``world`` of several processes each draws its piece of every step, in as many parts as it accumulates:
    together they are the same samples, in the same order and changed alike; mixing stays within a part.
    """

    recipe: Recipe
    data: Dataset
    options: TrainingOptions
    world: World = ALONE

    @cached_property
    def rows(self) -> Rows:
        return Rows(self.recipe, self.data)

    @cached_property
    def rows_per_epoch(self) -> int:
        """How many the recipe's sampler draws; all of the training split without one."""
        if self.recipe.sampler is None:
            return len(self.data.train)
        return len(self._sampled(self._generator(1, stream=0)))

    def steps_per_epoch(self) -> int:
        """Whole batches; a split smaller than one batch is one step."""
        return max(1, self.rows_per_epoch // self.options.batch_size)

    def draw(self, epoch: int) -> Iterator[Batch]:
        """One epoch of host batches in random order, the incomplete one at the end left out."""
        generator = self._generator(epoch, stream=0)
        if not self.options.switches.whole_batches:
            yield from self._sample_by_sample(epoch, generator)
            return
        order = self._order(generator)
        switches = self.options.switches
        half = (self.recipe.cast_inputs and switches.amp_dtype) or torch.float32
        pieces, again = itertools.tee(self._pieces(order))
        stored = self.rows.each(self.data.train, (rows for rows, _ in again))
        for (inputs, targets), (_, piece) in zip(stored, pieces, strict=True):
            for name, tensor in inputs.items():
                if switches.cast_before_copy and tensor.is_floating_point():
                    inputs[name] = tensor.to(half)
                elif not switches.cast_before_copy and tensor.dtype not in IDS:
                    inputs[name] = tensor.float()
            yield self._pinned(Batch(inputs, targets, piece))

    def _pieces(self, order: Picked) -> Iterator[tuple[Picked, Piece]]:
        """The rows that this process draws of each step, part by part."""
        size, parts = self.options.batch_size, self.options.parallel.accumulate
        for step in range(self.steps_per_epoch()):
            rows = order[step * size : (step + 1) * size]
            cuts = self.world.size * parts
            if len(rows) < cuts:
                raise BadUsage(
                    f"A step has {len(rows)} samples, and {self.world.size} processes do it in {parts} parts each.",
                    "Use a larger --batch-size, fewer processes, or less --accumulate.",
                )
            for part_of in range(parts):
                cut = self.world.rank * parts + part_of
                start, stop = len(rows) * cut // cuts, len(rows) * (cut + 1) // cuts
                yield (
                    rows[start:stop],
                    Piece(start, stop, len(rows), begins=part_of == 0, ends=part_of == parts - 1),
                )

    def place(self, batch: Batch) -> Batch:
        """Copy to the device."""
        device, asynchronous = self.options.device, self.options.switches.async_copy
        return _changed(batch, lambda tensor: tensor.to(device, non_blocking=asynchronous))

    def finish(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Scale, augment and mix on the device, in the memory format and dtype of the step."""
        inputs, targets = batch.inputs, batch.targets
        switches = self.options.switches
        if switches.whole_batches or self.recipe.collate is not None:
            inputs = self.rows.scaled(inputs)
            with self._drawing(batch.piece, generator):
                inputs, targets = self._augmented(inputs, targets, generator)
        mix = drawn_mix(self.recipe.mixup, batch.rows, generator) if self.recipe.mixup else None
        if mix is not None:
            inputs = {name: mix.of_inputs(tensor, name) for name, tensor in inputs.items()}
        for name, tensor in inputs.items():
            if switches.channels_last and tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            # what the recipe does not give free is autocast's to round, where that does no harm
            castable = self.recipe.cast_inputs and tensor.is_floating_point()
            if castable and switches.amp_dtype is not None and switches.whole_batches:
                tensor = tensor.to(switches.amp_dtype)
            inputs[name] = tensor
        return replace(batch, inputs=inputs, targets=targets, mix=mix)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """One epoch of batches, ready for a step."""
        generator = self.augmentation_generator(epoch)
        begun = generator.get_state()
        for batch in self.draw(epoch):
            if batch.piece.begins:
                begun = generator.get_state()
            else:
                generator.set_state(begun)  # every part of a step draws what the whole step would
            yield self.finish(self.place(batch), generator)

    @staticmethod
    def _drawing(piece: Piece, generator: torch.Generator) -> contextlib.AbstractContextManager[object]:
        if piece.is_all:
            return contextlib.nullcontext()
        return SameDraws(generator, start=piece.start, stop=piece.stop, count=piece.count)

    def augmentation_generator(self, epoch: int) -> torch.Generator:
        return self._generator(epoch, stream=1)

    def _augmented(self, inputs: Tensors, targets: Any, generator: torch.Generator) -> tuple[Tensors, Any]:
        recipe = self.recipe
        if recipe.augment is not None:
            with part("augment"):
                inputs = named_inputs(recipe.augment(_given(inputs, recipe), generator), recipe)
        if recipe.augment_pairs is not None:
            with part("augment_pairs"):
                changed, targets = recipe.augment_pairs(_given(inputs, recipe), targets, generator)
                inputs = named_inputs(changed, recipe)
        return inputs, targets

    def _order(self, generator: torch.Generator) -> Picked:
        if self.recipe.sampler is None:
            order: Picked = torch.randperm(len(self.data.train), generator=generator).numpy()
            return order
        order = self._sampled(generator)
        if len(order) != self.rows_per_epoch:
            raise BadUsage(
                f"The recipe's sampler gives {len(order):,} rows, and {self.rows_per_epoch:,} in the first epoch.",
                "Let it give as many in every epoch.",
            )
        return order

    def _sampled(self, generator: torch.Generator) -> Picked:
        assert self.recipe.sampler is not None
        count = len(self.data.train)
        with part("sampler"):
            rows = np.asarray(self.recipe.sampler(self.data.train, generator))
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
            raise BadUsage(
                f"The recipe's sampler gives {rows.dtype}{list(rows.shape)}.",
                "Let it give the row numbers of one epoch: whole numbers (R,).",
            )
        if rows.min() < 0 or rows.max() >= count:
            wrong = int(rows.min() if rows.min() < 0 else rows.max())
            raise BadUsage(
                f"The recipe's sampler gives row {wrong}, and the training split has {count:,}.",
                f"Give row numbers from 0 to {count - 1}.",
            )
        return rows.astype(np.int64, copy=False)

    def _sample_by_sample(self, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """As a newcomer writes it: a Dataset whose __getitem__ transforms one sample, in a DataLoader."""
        pieces = list(self._pieces(self._order(generator)))
        # each process draws for its own samples
        own = generator if self.world.size == 1 else torch.Generator().manual_seed(self.own_seed(epoch))
        samples = _Samples(self, own)
        loader: DataLoader[Any] = DataLoader(
            samples, batch_sampler=[rows.tolist() for rows, _ in pieces], generator=own, collate_fn=samples.together
        )
        for (inputs, targets), (_, piece) in zip(loader, pieces, strict=True):
            yield Batch(inputs, targets, piece)

    def _pinned(self, batch: Batch) -> Batch:
        return _changed(batch, torch.Tensor.pin_memory) if self.options.switches.async_copy else batch

    def own_seed(self, epoch: int) -> int:
        """Of what this process draws for itself in an epoch, other than the others."""
        return self._seed(epoch, stream=2 + self.world.rank)

    def _generator(self, epoch: int, *, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(epoch, stream=stream))

    def _seed(self, epoch: int, *, stream: int) -> int:
        return int(np.random.SeedSequence([self.options.seed, epoch, stream]).generate_state(1)[0])


def _given(inputs: Tensors, recipe: Recipe) -> Any:
    """As an augmentation takes them: the only input by itself."""
    return inputs if set(inputs) != {recipe.input_name} else inputs[recipe.input_name]


def _changed(batch: Batch, change: Any) -> Batch:
    return replace(
        batch,
        inputs={name: change(tensor) for name, tensor in batch.inputs.items()},
        targets=tensor_tree.mapped(batch.targets, change),
    )


class _Samples(TorchDataset[Any]):
    """Samples one by one: transformed where nothing but stacking makes a batch of them, else their row numbers."""

    def __init__(self, path: BatchPath, generator: torch.Generator) -> None:
        self._path, self._generator = path, generator

    def __len__(self) -> int:
        return len(self._path.data.train)

    def __getitem__(self, row: int) -> Any:
        if self._path.recipe.collate is not None:
            return row
        inputs, targets = self._path.rows.stored(self._path.data.train, np.array([row]))
        inputs, targets = self._path._augmented(self._path.rows.scaled(inputs), targets, self._generator)
        first = torch.Tensor.__getitem__
        return {name: first(tensor, 0) for name, tensor in inputs.items()}, tensor_tree.mapped(
            targets, lambda tensor: first(tensor, 0)
        )

    def together(self, samples: Sequence[Any]) -> tuple[Tensors, Any]:
        """Inputs and targets of one batch of what ``__getitem__`` gave."""
        if self._path.recipe.collate is not None:
            return self._path.rows.stored(self._path.data.train, np.array(samples))
        inputs, targets = torch.utils.data.default_collate(list(samples))
        return inputs, targets
