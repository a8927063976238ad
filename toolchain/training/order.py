"""Which samples the steps of an epoch take, and which of them are this process's."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from toolchain.datasets.dataset import Dataset
from toolchain.errors import BadUsage
from toolchain.recipes.recipe import Recipe, part
from toolchain.recipes.rows import Picked
from toolchain.training.options import TrainingOptions
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
class Order:
    """Each epoch's rows, by the recipe's sampler or at random, from the seed and the epoch alone.

    In a ``world`` of several processes each has its piece of every step, in as many parts as it accumulates.
    """

    recipe: Recipe
    data: Dataset
    options: TrainingOptions
    world: World = ALONE

    @cached_property
    def rows_per_epoch(self) -> int:
        """How many the recipe's sampler draws; all of the training split without one."""
        if self.recipe.sampler is None:
            return len(self.data.train)
        return len(self._sampled(self.generator(1, stream=0)))

    def steps_per_epoch(self) -> int:
        """Whole batches; a split smaller than one batch is one step."""
        return max(1, self.rows_per_epoch // self.options.batch_size)

    def pieces(self, generator: torch.Generator) -> Iterator[tuple[Picked, Piece]]:
        """The rows that this process draws of each step of an epoch, part by part, the incomplete step left out."""
        order = self._order(generator)
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

    def own_seed(self, epoch: int) -> int:
        """Of what this process draws for itself in an epoch, other than the others."""
        return self._seed(epoch, stream=2 + self.world.rank)

    def generator(self, epoch: int, *, stream: int) -> torch.Generator:
        """Of one of an epoch's streams of random numbers: 0 is the order's."""
        return torch.Generator().manual_seed(self._seed(epoch, stream=stream))

    def _seed(self, epoch: int, *, stream: int) -> int:
        return int(np.random.SeedSequence([self.options.seed, epoch, stream]).generate_state(1)[0])

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
