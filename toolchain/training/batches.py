"""Training batches: drawn, transformed, mixed and brought to the device."""

import contextlib
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from toolchain.datasets.dataset import Dataset, holds_ids
from toolchain.recipes import tensor_tree
from toolchain.recipes.recipe import Recipe, Tensors, named_inputs, part
from toolchain.recipes.rows import Rows
from toolchain.training import one_by_one
from toolchain.training.mixup import Mix, drawn_mix
from toolchain.training.options import TrainingOptions
from toolchain.training.order import Order, Piece
from toolchain.training.same_draws import SameDraws
from toolchain.training.world import ALONE, World


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
    def order(self) -> Order:
        return Order(self.recipe, self.data, self.options, self.world)

    def draw(self, epoch: int) -> Iterator[Batch]:
        """One epoch of host batches in random order, the incomplete one at the end left out."""
        if not self.options.switches.whole_batches:
            yield from self._sample_by_sample(epoch)
            return
        switches = self.options.switches
        half = (self.recipe.cast_inputs and switches.amp_dtype) or torch.float32
        pieces, again = itertools.tee(self.order.pieces(self.order.generator(epoch, stream=0)))
        stored = self.rows.each(self.data.train, (rows for rows, _ in again))
        for (inputs, targets), (_, piece) in zip(stored, pieces, strict=True):
            for name, tensor in inputs.items():
                if switches.cast_before_copy and tensor.is_floating_point():
                    inputs[name] = tensor.to(half)
                elif not switches.cast_before_copy and not holds_ids(tensor):
                    inputs[name] = tensor.float()
            yield self._pinned(Batch(inputs, targets, piece))

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
                inputs, targets = self.augmented(inputs, targets, generator)
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
        return self.order.generator(epoch, stream=1)

    def augmented(self, inputs: Tensors, targets: Any, generator: torch.Generator) -> tuple[Tensors, Any]:
        recipe = self.recipe
        if recipe.augment is not None:
            with part("augment"):
                inputs = named_inputs(recipe.augment(_given(inputs, recipe), generator), recipe)
        if recipe.augment_pairs is not None:
            with part("augment_pairs"):
                changed, targets = recipe.augment_pairs(_given(inputs, recipe), targets, generator)
                inputs = named_inputs(changed, recipe)
        return inputs, targets

    def _sample_by_sample(self, epoch: int) -> Iterator[Batch]:
        generator = self.order.generator(epoch, stream=0)
        pieces = list(self.order.pieces(generator))
        # each process draws for its own samples
        own = generator if self.world.size == 1 else torch.Generator().manual_seed(self.order.own_seed(epoch))
        change = functools.partial(self.augmented, generator=own)
        drawn = one_by_one.drawn(self.rows, self.data.train, [rows for rows, _ in pieces], change, own)
        for (inputs, targets), (_, piece) in zip(drawn, pieces, strict=True):
            yield Batch(inputs, targets, piece)

    def _pinned(self, batch: Batch) -> Batch:
        return _changed(batch, torch.Tensor.pin_memory) if self.options.switches.async_copy else batch


def _given(inputs: Tensors, recipe: Recipe) -> Any:
    """As an augmentation takes them: the only input by itself."""
    return inputs if set(inputs) != {recipe.input_name} else inputs[recipe.input_name]


def _changed(batch: Batch, change: Any) -> Batch:
    return replace(
        batch,
        inputs={name: change(tensor) for name, tensor in batch.inputs.items()},
        targets=tensor_tree.mapped(batch.targets, change),
    )
