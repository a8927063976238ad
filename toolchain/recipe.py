"""What a recipe of one's own is made of, under a name that stays wherever nnx keeps it."""

from toolchain.datasets.dataset import Dataset, DataSource, Made, Scale, Split
from toolchain.recipes.recipe import (
    Augmentation,
    Collate,
    Loss,
    PairAugmentation,
    ParameterGroups,
    Recipe,
    Sampler,
    Schedule,
    adam,
    sgd,
)
from toolchain.recipes.sampling import balanced

__all__ = [
    "Augmentation",
    "Collate",
    "DataSource",
    "Dataset",
    "Loss",
    "Made",
    "PairAugmentation",
    "ParameterGroups",
    "Recipe",
    "Sampler",
    "Scale",
    "Schedule",
    "Split",
    "adam",
    "balanced",
    "sgd",
]
