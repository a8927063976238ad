"""A recipe of one's own: three sorts of wine, told by 13 measurements, with a small perceptron.

nnx run examples/wine_recipe.py:recipe
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from toolchain.datasets.dataset import Dataset, Scale, Split, shuffled_parts
from toolchain.recipe import Recipe, adam


class Wine:
    """scikit-learn's 178 wines: 60 % train, 20 % validation, 20 % test; inputs ``(N, 13)`` float32 as measured."""

    def digest(self) -> str:
        """The content never changes, so neither does its name."""
        return "wine of scikit-learn, seed 0"

    def load(self) -> Dataset:
        from sklearn.datasets import load_wine

        measured, sort = load_wine(return_X_y=True)
        inputs, labels = measured.astype(np.float32), sort.astype(np.int64)
        train, rest = shuffled_parts(len(labels), 0.6, seed=0)
        validation, test = np.array_split(rest, 2)
        return Dataset(
            train=Split(inputs[train], labels[train]),
            validation=Split(inputs[validation], labels[validation]),
            test=Split(inputs[test], labels[test]),
            classes=("barolo", "grignolino", "barbera"),
            # each measurement has a scale of its own; what is known of it comes from the training split alone
            scale=Scale(mean=tuple(inputs[train].mean(axis=0).tolist()), std=tuple(inputs[train].std(axis=0).tolist())),
        )

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """Nothing: no picture and no sentence is a wine."""
        return []


class WineNet(nn.Module):
    """(N, 13) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, measured: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(measured)
        return scores


recipe = Recipe(
    name="wine",
    model=WineNet,
    data=lambda folder: Wine(),
    epochs=20,
    batch_size=16,
    lr=3e-3,
    optimizer=adam,
    one_cycle=False,
    input_name="measured",
    output_name="scores",
)
