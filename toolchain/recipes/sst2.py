"""Sentiment of film reviews (SST-2): TF-IDF vectors into a multilayer perceptron."""

from itertools import pairwise

from torch import nn

from toolchain.datasets.sst2 import Sst2
from toolchain.recipes.recipe import Recipe, adam

_WIDTHS = (5000, 512, 256, 128, 64, 2)


def sentiment_mlp() -> nn.Module:
    """(N, 5000) TF-IDF weights -> (N, 2) scores."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(_WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers[:-2])


recipe = Recipe(
    name="sst2",
    model=sentiment_mlp,
    data=Sst2,
    epochs=5,
    batch_size=64,
    lr=1e-3,
    optimizer=adam,
    one_cycle=False,
    cast_inputs=True,
    input_name="tfidf",
)
