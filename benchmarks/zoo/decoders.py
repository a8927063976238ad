"""Of the zoo: GPT-2 that is handed the keys and values of what came before, and T5."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.zoo.attention import seeded

Tensor = torch.Tensor
Past = list[tuple[Tensor, Tensor]]
WORDS, _WIDTH, _HEADS = 200, 48, 4


class CachedBlock(nn.Module):
    """GPT-2's layer (Radford et al. 2019); what is new sees what is past and what of the new came before."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.qkv, self.out = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.up, self.down = nn.Linear(_WIDTH, 4 * _WIDTH), nn.Linear(4 * _WIDTH, _WIDTH)

    def forward(self, states: Tensor, past: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, length, _ = states.shape
        parts = self.qkv(self.norm1(states)).split(_WIDTH, dim=2)
        query, key, value = (part.view(batch, length, _HEADS, -1).transpose(1, 2) for part in parts)
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        total = key.shape[2]
        seen = torch.ones(length, total, dtype=torch.bool, device=states.device).tril(total - length)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        states = states + self.out(attended.transpose(1, 2).reshape(batch, length, _WIDTH))
        return states + self.down(F.gelu(self.up(self.norm2(states)), approximate="tanh")), (key, value)


class Gpt2(nn.Module):
    """``ids`` (N, T) and for each layer the past keys and values (N, 4, P, 12) -> logits, and those of P + T."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, _WIDTH), nn.Embedding(1024, _WIDTH)
        self.blocks = nn.ModuleList(CachedBlock() for _ in range(layers))
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, ids: Tensor, past: Past) -> dict[str, Tensor | Past]:
        before = past[0][0].shape[2]
        places = torch.arange(before, before + ids.shape[1], device=ids.device)
        states, present = self.words(ids) + self.places(places), []
        for block, each in zip(self.blocks, past, strict=True):
            states, made = block(states, each)
            present.append(made)
        return {"logits": F.linear(self.norm(states), self.words.weight), "present": present}


def gpt2() -> nn.Module:
    return seeded(Gpt2)


class RootMeanSquare(nn.Module):
    """T5's norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(_WIDTH))

    def forward(self, states: Tensor) -> Tensor:
        return self.weight * states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6)


class RelativeAttention(nn.Module):
    """Without scale, a learnt bias for how far apart places are in the first layer (Raffel et al. 2019)."""

    def __init__(self, *, both_ways: bool, biased: bool) -> None:
        super().__init__()
        self.both_ways = both_ways
        self.query, self.key, self.value, self.out = (nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(4))
        self.table = nn.Embedding(8, _HEADS) if biased else None

    def forward(self, states: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            layer(each).unflatten(-1, (_HEADS, -1)).transpose(1, 2)
            for layer, each in ((self.query, states), (self.key, memory), (self.value, memory))
        )
        weights = (query @ key.transpose(2, 3) + bias).softmax(-1)
        result: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return result

    def bias(self, length: int) -> Tensor:
        """(1, heads, T, T): a bucket for each distance, wider the farther."""
        assert self.table is not None
        apart = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        half = 4 if self.both_ways else 8
        buckets = (apart > 0).long() * half if self.both_ways else torch.zeros_like(apart)
        far = apart.abs() if self.both_ways else -torch.min(apart, torch.zeros_like(apart))
        exact = half // 2
        log = torch.log(far.float() / exact) / math.log(32 / exact) * (half - exact)
        large = torch.min(exact + log.long(), torch.full_like(far, half - 1))
        bias: Tensor = self.table(buckets + torch.where(far < exact, far, large))
        return bias.permute(2, 0, 1).unsqueeze(0)


class T5Layer(nn.Module):
    """To itself, where it ``decodes`` to the encoder's states, then a gated pair of linear layers."""

    def __init__(self, *, decodes: bool, biased: bool) -> None:
        super().__init__()
        self.own = RelativeAttention(both_ways=not decodes, biased=biased)
        self.norm, self.norm_up = RootMeanSquare(), RootMeanSquare()
        self.norm_crossed = RootMeanSquare() if decodes else None
        self.crossed = RelativeAttention(both_ways=True, biased=False) if decodes else None
        self.gate, self.up = (nn.Linear(_WIDTH, 2 * _WIDTH, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * _WIDTH, _WIDTH, bias=False)

    def forward(
        self, states: Tensor, bias: Tensor, memory: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        normed = self.norm(states)
        states = states + self.own(normed, normed, bias)
        if self.crossed is not None and self.norm_crossed is not None:
            states = states + self.crossed(self.norm_crossed(states), memory, hidden)
        normed = self.norm_up(states)
        result: Tensor = states + self.down(F.gelu(self.gate(normed), approximate="tanh") * self.up(normed))
        return result


class T5(nn.Module):
    """``input_ids`` and ``attention_mask`` (N, S), ``decoder_input_ids`` (N, T) -> logits (N, T, 200)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, _WIDTH)
        self.encoder = nn.ModuleList(T5Layer(decodes=False, biased=place == 0) for place in range(2))
        self.decoder = nn.ModuleList(T5Layer(decodes=True, biased=place == 0) for place in range(2))
        self.norm, self.norm_out = RootMeanSquare(), RootMeanSquare()
        self.score = nn.Linear(_WIDTH, WORDS, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        hidden = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        memory, bias = self.words(input_ids), self._bias(self.encoder, input_ids.shape[1]) + hidden
        for layer in self.encoder:
            memory = layer(memory, bias)
        memory = self.norm(memory)
        length = decoder_input_ids.shape[1]
        later = torch.full((length, length), float("-inf")).triu(1)
        states, bias = self.words(decoder_input_ids), self._bias(self.decoder, length) + later
        for layer in self.decoder:
            states = layer(states, bias, memory, hidden)
        logits: Tensor = self.score(self.norm_out(states))
        return logits

    @staticmethod
    def _bias(layers: nn.ModuleList, length: int) -> Tensor:
        first = layers[0]
        assert isinstance(first, T5Layer)
        return first.own.bias(length)


def t5() -> nn.Module:
    return seeded(T5)
