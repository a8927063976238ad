"""Recipes that train in a moment, for the tests of the loop's parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from toolchain.datasets.dataset import Dataset
from toolchain.progress import Progress
from toolchain.recipe import Recipe
from toolchain.training import loop
from toolchain.training.loop import TrainingResult
from toolchain.training.options import Switches, TrainingOptions

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.standard_normal((120, 6)).astype(np.float32)
LABELS = (INPUTS[:, 0] + INPUTS[:, 1] > 0).astype(np.int64)
DATA = Dataset.shuffled(INPUTS, LABELS)


def linear() -> nn.Module:
    return nn.Linear(6, 2)


def recipe(model: Callable[[], nn.Module] = linear, **more: Any) -> Recipe:
    given: dict[str, Any] = {"epochs": 4, "batch_size": 12, "lr": 0.05, "one_cycle": False, **more}
    return Recipe(name="tiny", model=model, data=lambda folder: pytest.fail("it is given"), **given)


def options(epochs: int = 4, **more: Any) -> TrainingOptions:
    switches = Switches(whole_batches=True, fused_optimizer=True)
    given: dict[str, Any] = {"batch_size": 12, "lr": 0.05, "seed": 0, "device": "cpu", "switches": switches, **more}
    return TrainingOptions(epochs=epochs, **given)


class Notes(Progress):
    """What was said; the epoch named by ``stop`` is interrupted before it begins."""

    def __init__(self, stop: int = 0) -> None:
        self.said: list[str] = []
        self._stop = stop

    def note(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)

    def bar(self, title: str, total: int):  # type: ignore[no-untyped-def]
        if title.startswith(f"epoch {self._stop}/"):
            raise KeyboardInterrupt
        return super().bar(title, total)


def trained(
    given: Recipe, folder: Path, data: Dataset = DATA, *, epochs: int = 4, said: Notes | None = None,
    resume: bool | None = None, **more: Any,
) -> TrainingResult:  # fmt: skip
    return loop.train(given, data, options(epochs, **more), folder, resume=resume, progress=said or Notes())
