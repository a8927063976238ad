"""Of the zoo: Whisper over the frames of a spectrogram, and wav2vec2 over a wave."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.zoo.attention import Block, seeded

Tensor = torch.Tensor
_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)


class Whisper(nn.Module):
    """``features`` (N, 16, frames) and ``ids`` (N, T) -> logits (N, T, 200) (Radford et al. 2022)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(16, width, 3, padding=1), nn.Conv1d(width, width, 3, 2, 1)
        self.places_heard, self.places_said = nn.Embedding(1500, width), nn.Embedding(448, width)
        self.words = nn.Embedding(200, width)
        self.encoder = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.decoder = nn.ModuleList(Block(width, 4, crossed=True) for _ in range(2))
        self.norm_heard, self.norm_said = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, features: Tensor, ids: Tensor) -> Tensor:
        heard = F.gelu(self.conv2(F.gelu(self.conv1(features)))).permute(0, 2, 1)
        heard = heard + self.places_heard.weight[: heard.shape[1]]
        for layer in self.encoder:
            heard = layer(heard)
        heard = self.norm_heard(heard)
        said = self.words(ids) + self.places_said.weight[: ids.shape[1]]
        for layer in self.decoder:
            said = layer(said, heard, causal=True)
        logits: Tensor = self.norm_said(said) @ self.words.weight.t()
        return logits


def whisper() -> nn.Module:
    return seeded(Whisper)


class Wav2Vec2(nn.Module):
    """``wave`` (N, samples), at least 400 -> a score for each of 12 letters every 320 (Baevski et al. 2020)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [1, *(width for _ in _KERNELS)]
        self.layers = nn.ModuleList(
            nn.Conv1d(inputs, width, kernel, stride, bias=False)
            for inputs, kernel, stride in zip(widths, _KERNELS, _STRIDES, strict=False)
        )
        self.group_norm = nn.GroupNorm(width, width)
        self.norm = nn.LayerNorm(width)
        places = nn.Conv1d(width, width, 16, padding=8, groups=4)
        self.places = nn.utils.parametrizations.weight_norm(places, dim=2)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.letters = nn.Linear(width, 12)

    def forward(self, wave: Tensor) -> Tensor:
        heard = wave[:, None]
        for place, layer in enumerate(self.layers):
            heard = layer(heard)
            heard = F.gelu(self.group_norm(heard) if place == 0 else heard)
        states = self.norm(heard.transpose(1, 2))
        states = states + F.gelu(self.places(states.transpose(1, 2))[:, :, :-1]).transpose(1, 2)
        for block in self.blocks:
            states = block(states)
        logits: Tensor = self.letters(states)
        return logits


def wav2vec2() -> nn.Module:
    return seeded(Wav2Vec2)
