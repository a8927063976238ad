"""Of the zoo: ResNet, MobileNetV3, EfficientNet and ConvNeXt, a few blocks of each; (N, 3, H, W) -> (N, 10)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.zoo.attention import seeded

Tensor = torch.Tensor
_BATCH = (32, 3, 32, 48)


def convolution(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, groups: int = 1,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:  # fmt: skip
    """Convolution, BatchNorm, activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        activation(),
    )


class Head(nn.Module):
    """Mean over the image, then scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 10)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.score(F.adaptive_avg_pool2d(features, 1).flatten(1))
        return scores


class Bottleneck(nn.Module):
    """ResNet-50's (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(inputs, outputs // 4, 1),
            convolution(outputs // 4, outputs // 4, 3, stride),
            convolution(outputs // 4, outputs, 1, activation=nn.Identity),
        )
        changes = stride != 1 or inputs != outputs
        self.down = convolution(inputs, outputs, 1, stride, activation=nn.Identity) if changes else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.layers(features) + self.down(features))


def resnet() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            convolution(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1), Bottleneck(16, 32), Bottleneck(32, 32),
            Bottleneck(32, 64, 2), Bottleneck(64, 64), Head(64),
        ),
        *_BATCH,
    )  # fmt: skip


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, inner: Callable[[], nn.Module], gate: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width // 4, 1), inner(), nn.Conv2d(width // 4, width, 1), gate()
        )

    def forward(self, features: Tensor) -> Tensor:
        scale: Tensor = self.layers(features)
        return features * scale


class Inverted(nn.Module):
    """The inverted residual of MobileNetV3 (Howard et al. 2019) and EfficientNet (Tan and Le 2019)."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, *, kernel: int, activation: Callable[[], nn.Module],
        gate: Callable[[], nn.Module],
    ) -> None:  # fmt: skip
        super().__init__()
        hidden = 4 * inputs
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            convolution(inputs, hidden, 1, activation=activation),
            convolution(hidden, hidden, kernel, stride, groups=hidden, activation=activation),
            SqueezeExcite(hidden, nn.ReLU if gate is nn.Hardsigmoid else nn.SiLU, gate),
            convolution(hidden, outputs, 1, activation=nn.Identity),
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.layers(features)
        return features + result if self.residual else result


def _inverted(activation: Callable[[], nn.Module], gate: Callable[[], nn.Module]) -> nn.Module:
    def block(inputs: int, outputs: int, stride: int, kernel: int) -> Inverted:
        return Inverted(inputs, outputs, stride, kernel=kernel, activation=activation, gate=gate)

    return nn.Sequential(
        convolution(3, 16, 3, 2, activation=activation), block(16, 16, 1, 3), block(16, 24, 2, 5), block(24, 24, 1, 5),
        block(24, 40, 2, 3), convolution(40, 96, 1, activation=activation), Head(96),
    )  # fmt: skip


def mobilenetv3() -> nn.Module:
    return seeded(lambda: _inverted(nn.Hardswish, nn.Hardsigmoid), *_BATCH)


def efficientnet() -> nn.Module:
    return seeded(lambda: _inverted(nn.SiLU, nn.Sigmoid), *_BATCH)


class NextBlock(nn.Module):
    """ConvNeXt's, channels last inside (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.norm(self.depthwise(features).permute(0, 2, 3, 1))
        hidden = self.scale * self.down(F.gelu(self.up(hidden)))
        result: Tensor = features + hidden.permute(0, 3, 1, 2)
        return result


class NormOfChannels(nn.LayerNorm):
    """Over the channels of (N, C, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 24, 4, 4), NormOfChannels(24), NextBlock(24), NextBlock(24),
            NormOfChannels(24), nn.Conv2d(24, 48, 2, 2), NextBlock(48), NextBlock(48), Head(48),
        )
    )  # fmt: skip
