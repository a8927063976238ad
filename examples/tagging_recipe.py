"""A tag for each word of sentences of any length: two inputs of ids, padded by a collate; the file's time is dynamic.

nnx run examples/tagging_recipe.py:recipe
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolchain.recipe import Dataset, Made, Recipe, adam

WORDS, SHAPES, TAGS = 40, 3, ("other", "name", "after a name")


def sentences() -> Dataset:
    """800 made-up sentences of 4 to 12 words: their numbers, their shapes (2: capitals), and a tag for each word."""
    random = np.random.default_rng(0)
    words = [random.integers(1, WORDS, random.integers(4, 13)) for _ in range(800)]
    shapes = [random.integers(1, SHAPES, len(sentence)) for sentence in words]
    is_name = [(one > 25) & (two == 2) for one, two in zip(words, shapes, strict=True)]
    tags = [np.where(name, 1, np.where(np.roll(name, 1) & (np.arange(len(name)) > 0), 2, 0)) for name in is_name]
    return Dataset.shuffled({"words": words, "shapes": shapes}, tags, classes=TAGS)


def padded(samples: Sequence[tuple[dict[str, Any], Any]]) -> tuple[dict[str, Tensor], Tensor]:
    """One batch: id 0 and tag -100, which the loss and the metric leave out, fill up what is short."""

    def together(rows: list[Any], fill: int) -> Tensor:
        return nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], True, fill)

    inputs = {name: together([one[name] for one, _ in samples], 0) for name in ("words", "shapes")}
    return inputs, together([tags for _, tags in samples], -100)


class Tagger(nn.Module):
    """Ids ``(N, T)`` of words and shapes -> scores (N, 3, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.shapes = nn.Embedding(WORDS, 24), nn.Embedding(SHAPES, 8)
        self.mix, self.score = nn.Conv1d(32, 48, 3, padding=1), nn.Conv1d(48, len(TAGS), 1)

    def forward(self, words: Tensor, shapes: Tensor) -> Tensor:
        ids = torch.cat([self.words(words), self.shapes(shapes)], 2).transpose(1, 2)
        scores: Tensor = self.score(torch.relu(self.mix(ids)))
        return scores


recipe = Recipe(
    name="tags", model=Tagger, data=lambda folder: Made("made-up sentences, seed 0", sentences),
    epochs=15, batch_size=32, lr=5e-3, optimizer=adam, collate=padded, output_name="tags",
)  # fmt: skip
