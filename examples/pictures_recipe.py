"""A recipe on pictures that do not fit in memory: read from a folder per class, tar shards, or a Hugging Face data set.

nnx train examples/pictures_recipe.py:folders --data pictures/ --max-bad 10
nnx train examples/pictures_recipe.py:shards --data shards/
nnx train examples/pictures_recipe.py:arrow --data saved/
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from toolchain.recipe import DataSource, HuggingFaceData, ImageFolder, Pictures, Recipe, WebDataset

CLASSES = 3
PICTURES = Pictures(size=(32, 32))


class Net(nn.Module):
    """(N, 3, 32, 32) -> (N, CLASSES)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()
        )
        self.classify = nn.Linear(32, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classify(self.features(image).mean(dim=(2, 3)))
        return scores


def _recipe(name: str, data: Callable[[Path | None], DataSource]) -> Recipe:
    return Recipe(name=name, model=Net, data=data, epochs=5, batch_size=32, lr=0.05, input_name="image")


folders = _recipe("folders", lambda folder: ImageFolder(folder, PICTURES))
shards = _recipe("shards", lambda folder: WebDataset(folder, PICTURES, inputs="jpg;png", targets="cls"))
arrow = _recipe("arrow", lambda folder: HuggingFaceData(folder, PICTURES, inputs="image", targets="label"))
