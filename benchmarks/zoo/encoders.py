"""Of the zoo: BERT, DistilBERT, and CLIP with its two towers."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.zoo.attention import Attention, Block, seeded
from benchmarks.zoo.image_attention import ViT

Tensor = torch.Tensor
WORDS = 200


class PostNorm(nn.Module):
    """BERT's layer: each norm after its residual (Devlin et al. 2018)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        states = self.norm1(states + self.attention(states, bias=bias))
        result: Tensor = self.norm2(states + self.down(F.gelu(self.up(states))))
        return result


class Bert(nn.Module):
    """``input_ids``, ``attention_mask``, ``token_type_ids`` (N, T), two of them optional -> states and a pooled one."""

    def __init__(self, width: int = 48, longest: int = 512) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(WORDS, width, padding_idx=0), nn.Embedding(2, width)
        self.places = nn.Embedding(longest, width)
        self.register_buffer("position_ids", torch.arange(longest)[None], persistent=False)
        self.position_ids: Tensor
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(PostNorm(width, 4) for _ in range(2))
        self.pool = nn.Linear(width, width)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        length = input_ids.shape[1]
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        states = self.words(input_ids) + self.kinds(token_type_ids) + self.places(self.position_ids[:, :length])
        states = self.norm(states)
        bias = (1.0 - attention_mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
        for layer in self.layers:
            states = layer(states, bias)
        return {"last_hidden_state": states, "pooler_output": torch.tanh(self.pool(states[:, 0]))}


def bert() -> nn.Module:
    return seeded(Bert)


class DistilBert(nn.Module):
    """``input_ids`` and ``attention_mask`` (N, T) -> (N, 3), attention spelt out (Sanh et al. 2019)."""

    def __init__(self, width: int = 48, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.classify = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 3))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        batch, length = input_ids.shape
        positions = torch.arange(length, dtype=torch.long, device=input_ids.device).unsqueeze(0).expand_as(input_ids)
        states = self.norm(self.words(input_ids) + self.places(positions))
        hidden = (attention_mask == 0).view(batch, 1, 1, length)
        for qkv, out, norm in zip(self.qkv, self.out, self.norms, strict=True):
            parts = qkv(states).chunk(3, -1)
            query, key, value = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
            scores = query @ key.transpose(2, 3) / key.shape[-1] ** 0.5
            weights = scores.masked_fill(hidden.expand_as(scores), torch.finfo(scores.dtype).min).softmax(-1)
            states = norm(states + out((weights @ value).transpose(1, 2).contiguous().view(batch, length, -1)))
        logits: Tensor = self.classify(states[:, 0])
        return logits


def distilbert() -> nn.Module:
    return seeded(DistilBert)


class Clip(nn.Module):
    """``image`` (N, 3, 32, 32) and ``ids`` (M, T) -> how well each goes with each (Radford et al. 2021)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.see = ViT(width)
        self.see.score = nn.Linear(width, 32, bias=False)
        self.words, self.places = nn.Embedding(WORDS, width), nn.Parameter(torch.randn(77, width) * 0.01)
        self.read = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, 32, bias=False)
        self.scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, image: Tensor, ids: Tensor) -> dict[str, Tensor]:
        states = self.words(ids) + self.places[: ids.shape[1]]
        for layer in self.read:
            states = layer(states, causal=True)
        ends = self.norm(states)[torch.arange(ids.shape[0]), ids.argmax(-1)]
        text, seen = self.project(ends), self.see(image)
        text, seen = (each / each.norm(dim=-1, keepdim=True) for each in (text, seen))
        logits = self.scale.exp() * seen @ text.t()
        return {"image_embeds": seen, "text_embeds": text, "logits_per_image": logits, "logits_per_text": logits.t()}


def clip() -> nn.Module:
    return seeded(Clip)
