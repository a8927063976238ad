"""A class for each pixel: where is ink in a noisy picture? Cross-entropy takes masks as they are, the metric is IoU.

nnx run examples/segmentation_recipe.py:recipe
"""

import numpy as np
import torch
from torch import Tensor, nn

from toolchain.recipe import Dataset, Made, Recipe, adam


def noisy_digits() -> Dataset:
    """scikit-learn's digits under noise: inputs ``(N, 1, 8, 8)``, targets ``(N, 8, 8)`` of 0 (paper) and 1 (ink)."""
    from sklearn.datasets import load_digits

    images = load_digits().images
    noise = np.random.default_rng(0).normal(0, 4, images.shape)
    pictures = ((images + noise) / 16).astype(np.float32)[:, np.newaxis]
    return Dataset.shuffled(pictures, (images > 6).astype(np.uint8), classes=("paper", "ink"), standardize=True)


def mirrored(pictures: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half of the batches mirrored, pictures and masks alike."""
    if torch.rand((), generator=generator) < 0.5:
        return pictures, masks
    return pictures.flip(-1), masks.flip(-1)


def net() -> nn.Module:
    """(N, 1, 8, 8) -> (N, 2, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=2, dilation=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 2, 1),
    )  # fmt: skip


recipe = Recipe(
    name="ink",
    model=net,
    data=lambda folder: Made("digits of scikit-learn under noise, seed 0", noisy_digits),
    epochs=8,
    batch_size=64,
    lr=3e-3,
    optimizer=adam,
    class_weights=(1.0, 1.5),
    metric="iou",
    augment_pairs=mirrored,
    input_name="picture",
    output_name="scores",
)
