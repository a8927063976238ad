"""Attention as the transformers of the zoo share it, and weights that are drawn the same at every call."""

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

Tensor = torch.Tensor
Net = TypeVar("Net", bound=nn.Module)
_SEED = 7


def seeded(make: Callable[[], Net], *shape: int) -> Net:
    """What ``make`` makes in eval mode, weights from a seed.

    A net with BatchNorm gets their statistics from one seeded batch of ``shape``, each channel of each sample with a
    level of its own: then activations have the sizes that those of a trained net have.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        module = make()
        if shape:
            for layer in module.modules():
                if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    layer.momentum = None  # a plain average
            level = torch.randn(*shape[:2], *(1 for _ in shape[2:]))
            with torch.no_grad():
                module.train()(torch.randn(shape) + level)
    return module.eval()


class Attention(nn.Module):
    """Of ``states`` (N, T, width) over ``memory`` (N, S, width), themselves where it is None; ``bias`` is added."""

    def __init__(self, width: int, heads: int, memory_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key, self.value = (nn.Linear(memory_width or width, width) for _ in range(2))
        self.out = nn.Linear(width, width)

    def forward(
        self, states: Tensor, memory: Tensor | None = None, *, bias: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        memory = states if memory is None else memory
        query, key, value = self.split(self.query(states)), self.split(self.key(memory)), self.split(self.value(memory))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=causal)
        result: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return result

    def split(self, states: Tensor) -> Tensor:
        """(N, T, width) -> (N, heads, T, width / heads)."""
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm: attention to itself, to a memory where ``crossed``, then two linear layers."""

    def __init__(self, width: int, heads: int, *, crossed: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_crossed = nn.LayerNorm(width) if crossed else None
        self.crossed = Attention(width, heads) if crossed else None
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, states: Tensor, memory: Tensor | None = None, *, causal: bool = False) -> Tensor:
        states = states + self.attention(self.norm1(states), causal=causal)
        if self.crossed is not None and self.norm_crossed is not None:
            states = states + self.crossed(self.norm_crossed(states), memory)
        result: Tensor = states + self.feed_forward(self.norm2(states))
        return result
