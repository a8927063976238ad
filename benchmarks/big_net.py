"""A seeded net of any size for `nnx export benchmarks/big_net.py:make`: convolutions, attention, large products."""

import torch
from torch import Tensor, nn

SIDE = 8
"""Of the image, which is 4 tokens: its work is small beside reading the weights."""


class Block(nn.Module):
    """One of a transformer encoder, with weights of ``12 * width**2`` elements."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 16, batch_first=True)
        self.wider, self.narrower = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        normal = self.before(tokens)
        tokens = tokens + self.attention(normal, normal, normal, need_weights=False)[0]
        wider: Tensor = nn.functional.gelu(self.wider(self.between(tokens)))
        return tokens + self.narrower(wider)  # type: ignore[no-any-return]


class Net(nn.Module):
    """Image ``(N, 3, 8, 8)`` -> scores ``(N, 10)``."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, width, 4, stride=4))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.stem(image).flatten(2).transpose(1, 2)
        scores: Tensor = self.head(self.blocks(tokens).mean(1))
        return scores


def make(width: int = 4096, blocks: int = 3) -> Net:
    """By default 2.42 GB of fp32."""
    torch.manual_seed(0)
    return Net(width, blocks).eval()
