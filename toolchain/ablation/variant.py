"""The job of an ablation worker: one training loop with some switches on, run part by part."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from toolchain.datasets.dataset import Dataset, Scale, Split
from toolchain.errors import NotAvailable
from toolchain.inputs import sources
from toolchain.progress import SILENT
from toolchain.training import loop
from toolchain.training.batches import Batch, BatchPath
from toolchain.training.options import Switches, TrainingOptions
from toolchain.training.trainer import Trainer


def open_job(**spec: Any) -> "Variant":
    return Variant(**spec)


class Variant:
    """Trains ``recipe`` for ``options.epochs`` on the arrays in ``files``; ``steps`` of an epoch a part."""

    def __init__(
        self,
        *,
        recipe: str,
        options: dict[str, Any],
        files: dict[str, str],
        scale: dict[str, Any],
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        made = sources.recipe_named(recipe)
        self._options = TrainingOptions(**{**options, "switches": Switches(**options["switches"])})
        array = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
        splits = {name: Split(array[f"{name}_inputs"], array[f"{name}_labels"]) for name in ("train", "validation")}
        self._data = Dataset(**splits, test=splits["validation"], classes=(), scale=Scale(**scale))
        self._path = BatchPath(self._data, made.augment, self._options, made.cast_inputs)
        total = self._options.epochs * self._path.steps_per_epoch()
        self._trainer = Trainer(made, self._options, total_steps=total + 1, progress=SILENT)
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

    def accuracy(self) -> float:
        """On the validation split."""
        return loop.accuracy_of(self._trainer.model, self._data, self._data.validation, self._options.device)

    def _step(self, batch: Batch) -> None:
        loss, _ = self._trainer.step(batch)
        if self._plain:
            loss.item()  # a newcomer prints the loss of every step
        self._wait()

    def _wait(self) -> None:
        if self._options.device == "cuda":
            torch.cuda.synchronize()

    def _draw_all(self) -> Iterator[tuple[Batch, torch.Generator]]:
        for epoch in range(1, self._options.epochs + 1):
            generator = self._path.augmentation_generator(epoch)
            for batch in self._path.draw(epoch):
                yield batch, generator
