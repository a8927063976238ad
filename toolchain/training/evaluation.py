"""How good a module is on a split, batch by batch: what is kept of each sample is what the metric needs of it."""

import itertools
import math
from typing import Any

import numpy as np
import torch

from exporters.input_tree import Input
from exporters.torch_module import Flat
from toolchain.accuracy.metrics.metric import Metric
from toolchain.datasets.dataset import Split
from toolchain.recipes.recipe import Recipe, Tensors
from toolchain.recipes.rows import Rows
from toolchain.training.world import ALONE, World

_MOST_ROWS = 500
_MOST_BYTES = 64 << 20
"""Of a batch's inputs: large images take fewer at once."""


def score_of(
    module: torch.nn.Module, rows: Rows, split: Split, metric: Metric, device: str, world: World = ALONE
) -> float | None:
    """The ``metric`` of ``module`` on ``split``, in fp32; None where it is not defined for what the module gives.

    The memory does not grow with the samples but for what the metric keeps of each, a few numbers. The processes of a
    ``world`` do every so-manieth batch each, and all come to the score of all samples in their order.
    """
    module.eval()
    mine: dict[int, Any] = {}
    size = _rows_at_once(rows, split)
    starts = range(world.rank * size, len(split), world.size * size)
    chosen = (np.arange(start, min(start + size, len(split))) for start in starts)
    for start, (inputs, targets) in zip(starts, rows.batches(split, chosen, device), strict=True):
        mine[start] = metric.rows(outputs_of(module, inputs, rows.recipe), targets)
    everyone = {start: kept for each in world.gathered(mine) for start, kept in each.items()}
    found = [everyone[start] for start in sorted(everyone)]
    arrays = [part for part in found if isinstance(part, np.ndarray)]
    kept = np.concatenate(arrays) if len(arrays) == len(found) else list(itertools.chain.from_iterable(found))
    score = metric.scorer(kept)(np.ones(len(kept), np.int64))
    return score if math.isfinite(score) else None


def outputs_of(module: torch.nn.Module, inputs: Tensors, recipe: Recipe) -> dict[str, Any]:
    """What ``module`` makes of one batch, as arrays by the names that its file has."""
    flat = Flat(module, {name: Input(name) for name in inputs})
    with torch.inference_mode():
        values = flat(*inputs.values())
    return {
        recipe.named_output(name, flat.outputs): value.cpu().numpy()
        for name, value in zip(flat.outputs, values, strict=True)
    }


def _rows_at_once(rows: Rows, split: Split) -> int:
    first = rows.stored(split, np.arange(1))[0]
    bytes_of_one = sum(4 * tensor.numel() for tensor in first.values())
    return max(1, min(_MOST_ROWS, _MOST_BYTES // max(1, bytes_of_one)))
