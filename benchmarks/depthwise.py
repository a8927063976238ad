"""A depthwise-separable net on which plain min/max int8 fails: MobileNetV2's blocks at CIFAR-10's size.

    nnx train benchmarks/depthwise.py:recipe --data DIR

`make int8-accuracy` judges every quantizer on what that leaves.

In published MobileNets the channels of a layer, BatchNorm folded in, come to differ by two orders of magnitude over
hundreds of epochs (Nagel et al. 2019, figure 2), and one activation scale for all leaves the small ones no levels. A
few epochs from gains of 1 do not bring that about (measured after two: gains from 0.5 to 2.4, min/max int8 at 32 dB
and nothing lost), so here the gains of the expanding convolutions START log-normal. Training neither needs them nor
evens them out, for the BatchNorm behind the depthwise convolution takes every channel's scale away again. Nothing is
changed after training.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

from toolchain.datasets.cifar10 import Cifar10
from toolchain.recipe import Recipe
from toolchain.recipes.augmentation import random_affine

_EXPANSION = 6
_GAIN_SPREAD = 1.2
"""The standard deviation of the first gains' logarithm: the largest of 100 is about 20 times the median."""
# channels out, blocks, stride of the first
_STAGES = ((24, 2, 2), (32, 3, 2), (64, 3, 1), (96, 2, 2))


class DepthwiseNet(nn.Module):
    """(N, 3, 32, 32) -> (N, 10), 396,282 parameters: a strided stem, ten inverted residual blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, 16, kernel=3, stride=2)]
        width = 16
        for outputs, blocks, stride in _STAGES:
            for index in range(blocks):
                layers.append(InvertedResidual(width, outputs, stride if index == 0 else 1))
                width = outputs
        self.features = nn.Sequential(*layers, _convolution(width, 256))
        self.classify = nn.Linear(256, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.features(image)
        # the same as mean(dim=(2, 3)), whose gradient is not channels_last: that costs 10 % of a training step
        pooled = F.avg_pool2d(features, features.shape[-1]).flatten(1)
        scores: torch.Tensor = self.classify(pooled)
        return scores


class InvertedResidual(nn.Module):
    """Expand six times, filter each channel by itself, project without activation (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * _EXPANSION
        self.residual = stride == 1 and inputs == outputs
        self.path = nn.Sequential(
            _convolution(inputs, hidden, gain_spread=_GAIN_SPREAD),
            _convolution(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.path(features)
        return features + result if self.residual else result


def _convolution(
    inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, gain_spread: float = 0.0
) -> nn.Sequential:
    norm = nn.BatchNorm2d(outputs)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    if gain_spread:
        with torch.no_grad():
            norm.weight.normal_(std=gain_spread).exp_()
    return nn.Sequential(convolution, norm, nn.ReLU())


def sgd_decaying_kernels(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """SGD that leaves gains and biases free: decay would pull the large gains back."""
    every = list(parameters)
    groups = [
        {"params": [parameter for parameter in every if parameter.ndim > 1], "weight_decay": 5e-4},
        {"params": [parameter for parameter in every if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)


recipe = Recipe(
    name="depthwise",
    model=DepthwiseNet,
    data=Cifar10,
    epochs=6,
    batch_size=256,
    lr=0.4,
    optimizer=sgd_decaying_kernels,
    augment=random_affine(shift=0.0625, flip=True),
    compile_on_cpu=False,
    cast_inputs=True,
    input_name="image",
)
