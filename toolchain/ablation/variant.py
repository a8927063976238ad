"""The job of an ablation worker: one training loop with some switches on, run part by part."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from toolchain import records
from toolchain.ablation import shared_data
from toolchain.datasets import reading
from toolchain.errors import NotAvailable
from toolchain.inputs import sources
from toolchain.progress import SILENT
from toolchain.training import evaluation
from toolchain.training.batches import Batch, BatchPath
from toolchain.training.options import TrainingOptions
from toolchain.training.trainer import Trainer
from toolchain.training.world import ALONE, World, joined

_OTHERS_S = 600.0


def open_job(**spec: Any) -> "Variant":
    return Variant(**spec)


class Variant:
    """Trains ``recipe`` for ``options.epochs`` on the arrays in ``files``; ``steps`` of an epoch a part.

    Without ``files`` it reads the data set, from ``data_folder``, and skips up to ``max_bad`` samples. In a ``world``,
    a rank of a size that meet at a port, it does its part of each step.
    """

    def __init__(
        self,
        *,
        recipe: str,
        options: dict[str, Any],
        files: dict[str, Any] | None,
        data_folder: str | None,
        threads: int,
        max_bad: int = 0,
        world: dict[str, int] | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self._resources = contextlib.ExitStack()
        together = ALONE if world is None else self._joined(options["device"], **world)
        made = sources.recipe_named(recipe)
        self._options = records.made(TrainingOptions, options)
        folder = None if data_folder is None else Path(data_folder)
        reading.MAX_BAD.set(max_bad)  # for as long as this process lives
        data = made.data(folder).load() if files is None else shared_data.mapped(files)
        self._path = BatchPath(made, data, self._options, together)
        total = self._options.epochs * self._path.order.steps_per_epoch()
        self._trainer = Trainer(made, data, self._options, total_steps=total + 1, progress=SILENT, world=together)
        self._plain = not self._options.switches.whole_batches
        self._drawn = self._draw_all()

    def start(self) -> float:
        """One step outside the count, in which compilation happens; its seconds. A compile that fails is an error."""
        started = time.perf_counter()
        generator = self._path.augmentation_generator(0)
        self._step(self._path.finish(self._path.place(next(self._path.draw(0))), generator))
        if self._options.switches.compile and not self._trainer.compiled:
            raise NotAvailable("torch.compile failed on this model.", "See what `nnx train --compile` says.")
        return time.perf_counter() - started

    def part(self, *, steps: int) -> dict[str, Any]:
        """The next ``steps`` steps: the milliseconds of each (copy, training) and the seconds of all, data included."""
        milliseconds = []
        started = time.perf_counter()
        for _ in range(steps):
            host, generator = next(self._drawn)
            before = time.perf_counter()
            placed = self._path.place(host)
            self._wait()  # a non-blocking copy counts too
            copied = time.perf_counter()
            ready = self._path.finish(placed, generator)
            self._wait()
            finished = time.perf_counter()
            self._step(ready)
            milliseconds.append((copied - before + time.perf_counter() - finished) * 1e3)
        return {"step_ms": milliseconds, "seconds": time.perf_counter() - started}

    def score(self) -> float | None:
        """On the validation split."""
        return evaluation.score_of(
            self._trainer.model, self._path.rows, self._path.data.validation, self._path.recipe.judged_by(),
            self._options.device, self._path.world,
        )  # fmt: skip

    def _joined(self, device: str, *, rank: int, size: int, port: int) -> World:
        """As torchrun would have it; until this process ends."""
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }  # fmt: skip
        return self._resources.enter_context(joined(device, timeout_s=_OTHERS_S))

    def _step(self, batch: Batch) -> None:
        stepped = self._trainer.step(batch)
        if self._plain and stepped is not None:
            stepped[0].item()  # a newcomer prints the loss of every step
        self._wait()

    def _wait(self) -> None:
        if self._options.device == "cuda":
            torch.cuda.synchronize()

    def _draw_all(self) -> Iterator[tuple[Batch, torch.Generator]]:
        for epoch in range(1, self._options.epochs + 1):
            generator = self._path.augmentation_generator(epoch)
            for batch in self._path.draw(epoch):
                yield batch, generator
