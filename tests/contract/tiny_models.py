"""Tiny models with what trips exporters and converters, each with its input."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn


class Residual(nn.Module):
    """A skip connection, a depthwise and a dilated convolution, batch norms with statistics of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU())
        self.dilated = nn.Conv2d(16, 16, 3, padding=2, dilation=2)
        self.pool = nn.MaxPool2d(2)
        self.classify = nn.Linear(16, 5)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
                nn.init.uniform_(layer.running_var, 0.5, 2.0)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        stem = self.stem(image)
        features = self.pool(self.depthwise(stem) + self.dilated(stem))
        scores: torch.Tensor = self.classify(features.mean((2, 3)))
        return scores


class Casting(nn.Module):
    """Leaves floating point and comes back: the graph holds Cast(to=FLOAT)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 5)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        hidden = self.first(values)
        positive = (hidden > 0).float()
        scores: torch.Tensor = self.second(hidden * positive)
        return scores


class Attention(nn.Module):
    """Softmax, layer norm, transposes and a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.norm, self.classify = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.query(tokens) @ self.key(tokens).transpose(1, 2) / 4, dim=-1)
        mixed = self.norm(tokens + weights @ self.value(tokens))
        scores: torch.Tensor = self.classify(mixed.mean(1))
        return scores


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 5))


@dataclass(frozen=True)
class Tiny:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build().eval()

    def samples(self, count: int = 16, seed: int = 0) -> dict[str, npt.NDArray[np.generic]]:
        return {"x": np.random.default_rng(seed).normal(size=(count, *self.shape)).astype(np.float32)}


MODELS = {
    "mlp": Tiny(mlp, (12,)),
    "residual": Tiny(Residual, (3, 8, 8)),
    "casting": Tiny(Casting, (12,)),
    "attention": Tiny(Attention, (6, 16)),
}
