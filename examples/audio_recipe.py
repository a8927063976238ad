"""Sounds: which of four notes is played, of a quarter of a second of the waveform itself.

nnx run examples/audio_recipe.py:recipe
"""

import math

import numpy as np
import torch
from torch import nn

from toolchain.recipe import Dataset, Made, Recipe, adam

RATE, NOTES = 4_000, {"A": 220.0, "C": 261.6, "E": 329.6, "G": 392.0}


def notes() -> Dataset:
    """800 made-up sounds: inputs ``(N, 1, 1000)`` from -1 to 1, of random loudness and phase, in noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, len(NOTES), 800)
    pitch = np.array(list(NOTES.values()))[labels, np.newaxis] * random.uniform(0.98, 1.02, (800, 1))
    cycles = pitch * np.arange(1000) / RATE + random.uniform(0, 1, (800, 1))
    sound = sum(np.sin(2 * math.pi * overtone * cycles) / overtone for overtone in (1, 2, 3))
    waves = 0.3 * random.uniform(0.3, 1, (800, 1)) * sound + random.normal(0, 0.05, (800, 1000))
    return Dataset.shuffled(waves.astype(np.float32)[:, np.newaxis], labels, classes=tuple(NOTES))


def louder(waves: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each sound up to twice as loud, or half."""
    return waves * 2 ** (2 * torch.rand(len(waves), 1, 1, generator=generator) - 1).to(waves.device)


def net() -> nn.Module:
    """(N, 1, 1000) -> (N, 4): filters of the waveform, how strong each is on average, two layers."""
    return nn.Sequential(
        nn.Conv1d(1, 32, 64, stride=4), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Conv1d(32, 32, 8, stride=4), nn.BatchNorm1d(32), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, len(NOTES)),
    )  # fmt: skip


def warm_up_and_down(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Up in the first tenth of the steps, then down along a cosine: it is stepped after every step."""
    up = max(1, steps // 10)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / up) * 0.5 * (1 + math.cos(math.pi * max(0, step - up) / max(1, steps - up))),
    )


recipe = Recipe(
    name="notes", model=net, data=lambda folder: Made("made-up notes, seed 0", notes),
    epochs=15, batch_size=32, lr=5e-3, optimizer=adam, schedule=warm_up_and_down, augment=louder, mixup=0.2,
    label_smoothing=0.05, input_name="wave", output_name="notes",
)  # fmt: skip
