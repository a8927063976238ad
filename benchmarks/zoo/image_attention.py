"""Of the zoo: ViT for images of one size, and Swin for any, padded to whole windows as torchvision's is."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.zoo.attention import Block, seeded

Tensor = torch.Tensor
_WINDOW, _HEADS = 4, 2


class ViT(nn.Module):
    """(N, 3, 32, 32) -> (N, 10), with a class token (Dosovitskiy et al. 2020)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(3)))
        self.norm, self.score = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image).flatten(2).transpose(1, 2)
        token = self.token.expand(image.shape[0], -1, -1)
        states = self.blocks(torch.cat([token, patches], 1) + self.positions)
        scores: Tensor = self.score(self.norm(states)[:, 0])
        return scores


def vit() -> nn.Module:
    return seeded(ViT)


class WindowBlock(nn.Module):
    """Attention in windows of (N, H, W, C), moved by half a window where ``shifted`` (Liu et al. 2021)."""

    def __init__(self, width: int, *, shifted: bool) -> None:
        super().__init__()
        self.shift = _WINDOW // 2 if shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * _WINDOW - 1) ** 2, _HEADS) * 0.1)
        places = torch.stack(torch.meshgrid(torch.arange(_WINDOW), torch.arange(_WINDOW), indexing="ij")).flatten(1)
        apart = places[:, :, None] - places[:, None, :] + _WINDOW - 1
        self.register_buffer("index", apart[0] * (2 * _WINDOW - 1) + apart[1])
        self.index: Tensor
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, features: Tensor) -> Tensor:
        features = features + self._attended(self.norm1(features))
        result: Tensor = features + self.feed_forward(self.norm2(features))
        return result

    def _attended(self, features: Tensor) -> Tensor:
        batch, height, width, channels = features.shape
        right, below = -width % _WINDOW, -height % _WINDOW
        padded = F.pad(features, (0, 0, 0, right, 0, below))
        rows, columns = (height + below) // _WINDOW, (width + right) // _WINDOW
        if self.shift:
            padded = torch.roll(padded, (-self.shift, -self.shift), (1, 2))
        windows = _windows(padded, rows, columns)
        query, key, value = self.qkv(windows).unflatten(-1, (3, _HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index].permute(2, 0, 1).unsqueeze(0)
        if self.shift:
            bias = bias + self._mask(padded, rows, columns).repeat(batch, 1, 1).unsqueeze(1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        joined = self.out(attended).view(batch, rows, columns, _WINDOW, _WINDOW, channels)
        joined = joined.transpose(2, 3).reshape(batch, rows * _WINDOW, columns * _WINDOW, channels)
        if self.shift:
            joined = torch.roll(joined, (self.shift, self.shift), (1, 2))
        result: Tensor = joined[:, :height, :width]
        return result

    def _mask(self, padded: Tensor, rows: int, columns: int) -> Tensor:
        """(windows, 16, 16): -100 between what was no neighbour before the shift."""
        regions = padded.new_zeros((1, rows * _WINDOW, columns * _WINDOW, 1))
        parts = (slice(0, -_WINDOW), slice(-_WINDOW, -self.shift), slice(-self.shift, None))
        for number, (down, across) in enumerate((down, across) for down in parts for across in parts):
            regions[:, down, across] = number
        windows = _windows(regions, rows, columns).squeeze(-1)
        return (windows.unsqueeze(1) - windows.unsqueeze(2)).ne(0).to(padded.dtype) * -100.0


def _windows(features: Tensor, rows: int, columns: int) -> Tensor:
    """(N, H, W, C) -> (N * windows, 16, C)."""
    split = features.view(features.shape[0], rows, _WINDOW, columns, _WINDOW, features.shape[3])
    return split.transpose(2, 3).reshape(-1, _WINDOW * _WINDOW, features.shape[3])


class Merge(nn.Module):
    """Four neighbours into one, an odd edge padded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        features = F.pad(features, (0, 0, 0, features.shape[2] % 2, 0, features.shape[1] % 2))
        four = [features[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.reduce(self.norm(torch.cat(four, -1)))
        return merged


class Swin(nn.Module):
    """(N, 3, H, W) -> (N, 10)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 2, 2)
        self.stages = nn.Sequential(
            WindowBlock(width, shifted=False), WindowBlock(width, shifted=True), Merge(width),
            WindowBlock(2 * width, shifted=False), WindowBlock(2 * width, shifted=True),
        )  # fmt: skip
        self.norm, self.score = nn.LayerNorm(2 * width), nn.Linear(2 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stages(self.patches(image).permute(0, 2, 3, 1))
        scores: Tensor = self.score(self.norm(features).mean((1, 2)))
        return scores


def swin() -> nn.Module:
    return seeded(Swin)
