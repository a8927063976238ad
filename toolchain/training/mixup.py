"""Mixup (Zhang et al. 2018): every sample of a batch blended with another of it, and so are their losses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from toolchain.errors import BadUsage
from toolchain.recipes import tensor_tree


@dataclass(frozen=True)
class Mix:
    """``share`` of each sample, 0.5 at least, and the rest of the one that ``order`` ``(B,)`` puts in its place."""

    share: float
    order: torch.Tensor

    def of_inputs(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """The blend; BadUsage for whole numbers, of which there is none."""
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise BadUsage(f"The input '{name}' is {kind}: there is no mixup of ids.", "Leave mixup out.")
        return tensor.lerp(tensor[self.order.to(tensor.device)], 1 - self.share)

    def of_loss(self, loss: Callable[[Any, Any], torch.Tensor], outputs: Any, targets: Any) -> torch.Tensor:
        """The losses beside both targets, in the same shares: the same as a blended target for cross-entropy."""

        def other(tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.ndim or len(tensor) != len(self.order):
                raise BadUsage(
                    f"A target is {list(tensor.shape)} for {len(self.order)} samples: it cannot be mixed.",
                    "Let its first axis count samples, or leave mixup out.",
                )
            return tensor[self.order.to(tensor.device)]

        mixed = loss(outputs, tensor_tree.mapped(targets, other))
        return self.share * loss(outputs, targets) + (1 - self.share) * mixed


def drawn_mix(alpha: float, count: int, generator: torch.Generator) -> Mix:
    """A mix of ``count`` samples, its share drawn from Beta(``alpha``, ``alpha``)."""
    order = torch.randperm(count, generator=generator)
    seed = int(torch.randint(2**31, (), generator=generator))  # torch draws no Beta from a generator
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    return Mix(max(share, 1 - share), order)
