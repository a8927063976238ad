"""Handwritten digits, 8 x 8: a small convolution net that trains in seconds. Copy this file to start your own."""

import torch
from torch import nn

from toolchain.datasets.digits import Digits
from toolchain.recipes.augmentation import random_affine
from toolchain.recipes.recipe import Recipe


class DigitsNet(nn.Module):
    """(N, 1, 8, 8) -> (N, 10): three 3 x 3 convolutions, the mean over the image, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(_convolution(1, 32), _convolution(32, 64, stride=2), _convolution(64, 128))
        self.classify = nn.Linear(128, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classify(self.features(image).mean(dim=(2, 3)))
        return scores


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


recipe = Recipe(
    name="digits",
    model=DigitsNet,
    data=lambda folder: Digits(),
    epochs=30,
    batch_size=64,
    lr=0.1,
    label_smoothing=0.05,
    augment=random_affine(degrees=10, shift=0.1, scale=0.1),
    cast_inputs=True,
    input_name="image",
)
