"""What a recipe of one's own is made of, under a name that stays wherever nnx keeps it."""

from toolchain.datasets.arrow_folder import HuggingFaceData
from toolchain.datasets.class_folders import ImageFolder
from toolchain.datasets.dataset import Dataset, DataSource, Made, Scale, Split
from toolchain.datasets.parts import Drawn
from toolchain.datasets.pictures import Pictures
from toolchain.datasets.shards import WebDataset
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
    "Drawn",
    "HuggingFaceData",
    "ImageFolder",
    "Loss",
    "Made",
    "PairAugmentation",
    "ParameterGroups",
    "Pictures",
    "Recipe",
    "Sampler",
    "Scale",
    "Schedule",
    "Split",
    "WebDataset",
    "adam",
    "balanced",
    "sgd",
]
