"""Training batches: drawn, transformed and brought to the device."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from toolchain.datasets.dataset import IDS, Dataset
from toolchain.recipes.recipe import Augmentation
from toolchain.training.options import TrainingOptions

Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs ``(B, ...)`` and labels ``(B,)``."""


@dataclass(frozen=True)
class BatchPath:
    """How samples travel from the data set to a training step: draw -> place -> finish.

    :meth:`draw` takes stored rows on the host, :meth:`place` copies them to the device, :meth:`finish` makes model
    inputs of them there, in half precision under AMP where ``cast_inputs`` allows it. Each epoch's order and
    augmentation follow from the seed and the epoch alone, so a resumed run sees what an unbroken one would have.
    """

    data: Dataset
    augment: Augmentation | None
    options: TrainingOptions
    cast_inputs: bool = False

    def steps_per_epoch(self) -> int:
        """Whole batches; a split smaller than one batch is one step."""
        return max(1, len(self.data.train) // self.options.batch_size)

    def draw(self, epoch: int) -> Iterator[Batch]:
        """One epoch of host batches in random order, the incomplete one at the end left out."""
        generator = self._generator(epoch, stream=0)
        if not self.options.switches.whole_batches:
            yield from self._sample_by_sample(generator)
            return
        inputs, labels = self.data.train.inputs, self.data.train.labels
        order = torch.randperm(len(labels), generator=generator).numpy()
        size = self.options.batch_size
        for step in range(self.steps_per_epoch()):
            rows = order[step * size : (step + 1) * size]
            batch = torch.from_numpy(inputs[rows])
            if self.options.switches.cast_before_copy and batch.is_floating_point():
                batch = batch.to((self.cast_inputs and self.options.switches.amp_dtype) or torch.float32)
            elif not self.options.switches.cast_before_copy and batch.dtype not in IDS:
                batch = batch.float()
            yield self._pinned(batch), self._pinned(torch.from_numpy(labels[rows]))

    def place(self, batch: Batch) -> Batch:
        """Copy to the device."""
        asynchronous = self.options.switches.async_copy
        inputs, labels = (tensor.to(self.options.device, non_blocking=asynchronous) for tensor in batch)
        return inputs, labels

    def finish(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Scale and augment on the device, in the memory format and dtype of the step."""
        inputs, labels = batch
        switches = self.options.switches
        if switches.whole_batches:
            inputs = self.data.scale(inputs)
            if self.augment is not None:
                inputs = self.augment(inputs, generator)
        if switches.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        # what the recipe does not give free is autocast's to round, where that does no harm
        castable = self.cast_inputs and inputs.is_floating_point()
        if castable and switches.amp_dtype is not None and switches.whole_batches:
            inputs = inputs.to(switches.amp_dtype)
        return inputs, labels

    def batches(self, epoch: int) -> Iterator[Batch]:
        """One epoch of batches, ready for a step."""
        generator = self.augmentation_generator(epoch)
        for batch in self.draw(epoch):
            yield self.finish(self.place(batch), generator)

    def augmentation_generator(self, epoch: int) -> torch.Generator:
        return self._generator(epoch, stream=1)

    def _sample_by_sample(self, generator: torch.Generator) -> Iterator[Batch]:
        """As a newcomer writes it: a Dataset whose __getitem__ transforms one sample, in a DataLoader."""
        samples = _TransformedSamples(self.data, self.augment, generator)
        yield from DataLoader(
            samples, self.options.batch_size, shuffle=True, drop_last=len(samples) >= self.options.batch_size,
            generator=generator,
        )  # fmt: skip

    def _pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self.options.switches.async_copy else tensor

    def _generator(self, epoch: int, *, stream: int) -> torch.Generator:
        seed = np.random.SeedSequence([self.options.seed, epoch, stream]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))


class _TransformedSamples(TorchDataset[Batch]):
    def __init__(self, data: Dataset, augment: Augmentation | None, generator: torch.Generator) -> None:
        self._data, self._augment, self._generator = data, augment, generator

    def __len__(self) -> int:
        return len(self._data.train)

    def __getitem__(self, row: int) -> Batch:
        stored = torch.from_numpy(self._data.train.inputs[row : row + 1])
        sample = self._data.scale(stored)
        if self._augment is not None:
            sample = self._augment(sample, self._generator)
        return sample[0], torch.tensor(self._data.train.labels[row])
