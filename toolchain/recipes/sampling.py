"""Samplers: which rows an epoch sees."""

import numpy as np
import torch

from toolchain.datasets.dataset import Split
from toolchain.errors import BadUsage


def balanced(split: Split, generator: torch.Generator) -> torch.Tensor:
    """As many rows as there are, drawn with replacement so that each class comes equally often."""
    labels = split.targets
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadUsage("Rows are balanced by class, and the targets are no class numbers (N,).", "Write a sampler.")
    weights = 1 / np.bincount(labels)[labels]
    return torch.multinomial(torch.from_numpy(weights), len(labels), replacement=True, generator=generator)
