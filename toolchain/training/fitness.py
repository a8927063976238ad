"""Do a model, its data, its loss and its metric fit each other? Seen before the first step, from a few samples."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from exporters.errors import in_words
from exporters.torch_module import isolated
from toolchain.accuracy.metrics.metric import Metric
from toolchain.errors import BadUsage, NnxError, is_of_the_machine
from toolchain.recipes.calling import Call
from toolchain.recipes.recipe import Tensors
from toolchain.training import evaluation
from toolchain.training.batches import Batch, BatchPath
from toolchain.training.finite_data import require_finite
from toolchain.training.objective import IGNORED, Objective

_CLASSES = (
    "Cross-entropy wants scores (N, K, ...) and class numbers (N, ...); for anything else give the recipe a loss."
)
_ONE_VALUE = "more than 1 value per channel"
_FEW = 2


def require_fit(model: torch.nn.Module, path: BatchPath, objective: Objective, metric: Metric) -> bool:
    """Raise BadUsage unless a training could begin; ``model`` is left as it is. Whether a step reaches all weights.

    The data must be finite, the model run on a few samples of them, the metric judge what it gives, and the loss of the
    first training batch be one finite number that has a gradient.
    """
    require_finite(path.data, path.recipe.input_name)
    device, split = path.options.device, path.data.validation
    inputs, targets = path.rows.batch(split, np.arange(min(_FEW, len(split))), device)
    given = isolated(model)
    with torch.random.fork_rng():
        outputs = _run(given, inputs, path)
        if path.recipe.loss is None:
            _require_classes(outputs, path, targets)
        metric.rows(evaluation.outputs_of(given, inputs, path.recipe), targets)
        batch = path.finish(path.place(next(path.draw(1))), path.augmentation_generator(1))
        return _require_loss(given.train(), batch, path, objective)


def _run(model: torch.nn.Module, inputs: Tensors, path: BatchPath) -> Any:
    try:
        with torch.inference_mode():
            return Call(model, inputs)(model, inputs)
    except Exception as error:
        if is_of_the_machine(error):
            raise
        shapes = ", ".join(_kind(name if len(inputs) > 1 else "", tensor) for name, tensor in inputs.items())
        raise BadUsage(
            f"The recipe's model does not run on its data, {shapes}: {in_words(error)}.",
            "Store what forward() takes: whole numbers stay whole, unless the Dataset has a scale.",
        ) from error


def _kind(name: str, tensor: torch.Tensor) -> str:
    return f"{name} {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}".strip()


def _require_classes(scores: Any, path: BatchPath, targets: Any) -> None:
    """What cross-entropy takes, in every split where the targets are stored as arrays."""
    if not isinstance(scores, torch.Tensor):
        raise BadUsage(f"The recipe's model returns a {type(scores).__name__}.", _CLASSES)
    if not isinstance(targets, np.ndarray) or targets.dtype.kind not in "iu":
        kind = targets.dtype if isinstance(targets, np.ndarray) else type(targets).__name__
        raise BadUsage(f"The recipe's targets are {kind}, not class numbers.", _CLASSES)
    shape = list(scores.shape)
    if scores.ndim < 2 or shape[1] < 2 or [shape[0], *shape[2:]] != list(targets.shape):
        raise BadUsage(
            f"The recipe's model returns {shape} for {len(targets)} samples with targets {list(targets.shape)}.",
            _CLASSES,
        )
    splits: Mapping[str, Any] = {"validation": targets}
    if path.recipe.collate is None:
        splits = {name: split.targets for name, split in path.data.splits.items()}
    for name, labels in splits.items():
        if not isinstance(labels, np.ndarray):
            continue
        kept = labels[labels != IGNORED]
        largest, least = (int(kept.max()), int(kept.min())) if kept.size else (0, 0)
        if least < 0 or largest >= shape[1]:
            raise BadUsage(
                f"The {name} split has the label {least if least < 0 else largest}, and the model scores {shape[1]} "
                "classes.",
                f"Number the classes from 0 to {shape[1] - 1}, or let the model score more.",
            )


def _require_loss(model: torch.nn.Module, batch: Batch, path: BatchPath, objective: Objective) -> bool:
    amp = path.options.switches.amp_dtype
    try:
        with torch.autocast(path.options.device, dtype=amp, enabled=amp is not None):
            outputs = Call(model, batch.inputs)(model, batch.inputs)
    except Exception as error:
        if isinstance(error, NnxError) or is_of_the_machine(error):
            raise
        if _ONE_VALUE in str(error):
            raise BadUsage(
                f"The first batch, or a part of it, has {batch.rows} sample, and a BatchNorm learns from two at least.",
                "Use a larger --batch-size with as many training samples, fewer processes, or less --accumulate.",
            ) from error
        raise BadUsage(
            f"The recipe's model does not run on its first training batch: {in_words(error)}.",
            "Run it in Python first, in train() mode.",
        ) from error
    if not batch.piece.is_all:
        objective.require_parts(outputs, batch)
    # of a part that has nothing that counts the mean is 0 / 0
    value = objective(
        outputs, batch, reduction="sum" if objective.weighs and not batch.piece.is_all else "mean"
    )  # fmt: skip
    loss = float(value.detach())
    if not math.isfinite(loss):
        raise BadUsage(
            f"The loss of the untrained model is {loss} on the first batch.",
            "Look for a logarithm of 0 or a division by 0 in the loss, and at the size of what the model gives.",
        )
    weights = [each for each in model.parameters() if each.requires_grad]
    return all(found is not None for found in torch.autograd.grad(value, weights, allow_unused=True))
