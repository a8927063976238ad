"""Of the zoo: detection by queries, as DETR, and by a grid at two scales, as YOLO."""

import math

import torch
from torch import nn

from benchmarks.zoo.attention import Block, seeded
from benchmarks.zoo.image_classifiers import convolution

Tensor = torch.Tensor


class Detr(nn.Module):
    """(N, 3, H, W) -> for each of 10 queries the scores of 6 kinds and a box (Carion et al. 2020)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.backbone = nn.Sequential(convolution(3, 16, 3, 2), convolution(16, 32, 3, 2), nn.Conv2d(32, width, 1))
        self.encoder = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.queries = nn.Embedding(10, width)
        self.decoder = nn.ModuleList(Block(width, 4, crossed=True) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.kinds = nn.Linear(width, 6)
        self.boxes = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.backbone(image)
        states = (features + self._places(features)).flatten(2).transpose(1, 2)
        for layer in self.encoder:
            states = layer(states)
        found = self.queries.weight.unsqueeze(0).repeat(image.shape[0], 1, 1)
        for layer in self.decoder:
            found = layer(found, states)
        found = self.norm(found)
        return {"logits": self.kinds(found), "boxes": self.boxes(found).sigmoid()}

    def _places(self, features: Tensor) -> Tensor:
        """Sines of row and column, from 0 to 2 pi over the image."""
        ones = torch.ones_like(features[:, 0])
        rows, columns = ones.cumsum(1), ones.cumsum(2)
        rows = rows / rows[:, -1:, :] * 2 * math.pi
        columns = columns / columns[:, :, -1:] * 2 * math.pi
        quarter = self.width // 4
        rates = 10_000 ** (torch.arange(quarter, dtype=torch.float32) / quarter)
        waves = [each[:, None] / rates[:, None, None] for each in (rows, columns)]
        return torch.cat([turned for wave in waves for turned in (wave.sin(), wave.cos())], 1)


def detr() -> nn.Module:
    return seeded(Detr, 8, 3, 32, 48)


class Yolo(nn.Module):
    """(N, 3, H, W) with H and W multiples of 8 -> (N, places, 4 + 6): boxes in pixels, then the scores of 6 kinds."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            convolution(3, width, 3, 2, activation=nn.SiLU), convolution(width, width, 3, 2, activation=nn.SiLU)
        )
        self.coarse = convolution(width, 2 * width, 3, 2, activation=nn.SiLU)
        self.up = nn.Upsample(scale_factor=2.0)
        self.mix = convolution(3 * width, width, activation=nn.SiLU)
        self.heads = nn.ModuleList([nn.Conv2d(width, 10, 1), nn.Conv2d(2 * width, 10, 1)])

    def forward(self, image: Tensor) -> Tensor:
        fine = self.fine(image)
        coarse = self.coarse(fine)
        fine = self.mix(torch.cat([fine, self.up(coarse)], 1))
        found = [
            self._decoded(head(each), stride)
            for head, each, stride in zip(self.heads, (fine, coarse), (4, 8), strict=True)
        ]
        return torch.cat(found, 1)

    @staticmethod
    def _decoded(raw: Tensor, stride: int) -> Tensor:
        height, width = raw.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([columns, rows]).to(raw.dtype)
        centre = (raw[:, :2].sigmoid() * 2 - 0.5 + grid) * stride
        size = (raw[:, 2:4].sigmoid() * 2) ** 2 * (4 * stride)
        return torch.cat([centre, size, raw[:, 4:].sigmoid()], 1).flatten(2).transpose(1, 2)


def yolo() -> nn.Module:
    return seeded(Yolo, 8, 3, 32, 48)
