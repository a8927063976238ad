"""What a training step lowers: cross-entropy, or the recipe's own loss."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from toolchain.datasets.dataset import Dataset
from toolchain.errors import BadUsage
from toolchain.recipes import tensor_tree
from toolchain.recipes.recipe import Recipe, part
from toolchain.training.batches import Batch

IGNORED = -100
"""The class number that cross-entropy leaves out, as torch has it."""


class Objective:
    """The loss of a batch, computed in full precision, as a scalar on the device."""

    def __init__(self, recipe: Recipe, data: Dataset, device: str) -> None:
        self._recipe, self._data, self._device = recipe, data, device
        self._weights: torch.Tensor | None = None
        self._own = recipe.loss
        if isinstance(recipe.loss, torch.nn.Module):
            self._own = copy.deepcopy(recipe.loss).to(device)
            if any(parameter.requires_grad for parameter in recipe.loss.parameters()):
                raise BadUsage(
                    "The recipe's loss has parameters of its own, which nothing would train.",
                    "Move them into the model.",
                )

    def __call__(self, outputs: Any, batch: Batch, *, reduction: str = "mean") -> torch.Tensor:
        """Raises BadUsage for a loss that fails, or is no scalar that depends on the model.

        ``reduction`` is mean or, where :attr:`weighs`, sum: divided by :meth:`weight_of` it is the mean.
        """

        def loss(outputs: Any, targets: Any) -> torch.Tensor:
            return self._of(outputs, targets, reduction)

        return loss(outputs, batch.targets) if batch.mix is None else batch.mix.of_loss(loss, outputs, batch.targets)

    @property
    def weighs(self) -> bool:
        """Whether some samples count more than others in the mean, so that parts of a batch do not count by their rows.

        So do class weights, and targets that are left out; those that are read on demand are not read for it.
        """
        if self._own is not None:
            return False
        if self._recipe.class_weights is not None or self._recipe.collate is not None:
            return True
        targets = self._data.train.targets
        return not isinstance(targets, np.ndarray) or bool((targets == IGNORED).any())

    def weight_of(self, batch: Batch) -> torch.Tensor:
        """What the targets of ``batch`` count for in the mean of all of a step, ``(1,)``."""
        kept = batch.targets[batch.targets != IGNORED]
        total = float(kept.numel()) if self._weights is None else self._weights[kept].sum()
        return torch.as_tensor(total, dtype=torch.float32, device=self._device).reshape(1)

    def require_parts(self, outputs: Any, batch: Batch) -> None:
        """BadUsage for a loss of the recipe's that is no mean over samples: parts of a batch would come to another one.

        Seen by giving it every sample twice, and the batch in two parts.
        """
        if self._own is None:
            return
        given = tensor_tree.as_outputs(outputs), batch.targets
        own = self._own

        def of(change: Callable[[torch.Tensor], torch.Tensor]) -> float:
            return float(own(*[tensor_tree.mapped(each, change) for each in given]))

        rows, found = batch.rows, dict[str, float]()
        with (
            part("loss", "It is given every sample twice, and parts, to see whether it is their mean."),
            torch.no_grad(),
        ):
            once = of(lambda tensor: tensor)
            found["each given twice"] = of(lambda tensor: torch.cat([tensor, tensor]))
            for cut in {rows // 2, rows // 3} - {0}:
                first, rest = of(lambda tensor, cut=cut: tensor[:cut]), of(lambda tensor, cut=cut: tensor[cut:])  # type: ignore[misc]
                found[f"{cut} of {rows} given apart"] = (first * cut + rest * (rows - cut)) / rows
        for how, loss in found.items():
            if math.isfinite(once) and not abs(once - loss) <= 1e-3 * max(abs(once), 1e-6):
                raise BadUsage(
                    f"The recipe's loss is no mean over samples: {how}, it is {loss:.4g} for {once:.4g}.",
                    "Let it return a mean in which all count alike, or train in one process without parts.",
                )

    def _of(self, outputs: Any, targets: Any, reduction: str) -> torch.Tensor:
        if self._own is None:
            if self._recipe.class_weights is not None and self._weights is None:
                self._weights = self._class_weights(outputs.shape[1])
            return F.cross_entropy(
                outputs.float(), targets, weight=self._weights, label_smoothing=self._recipe.label_smoothing,
                reduction=reduction,
            )  # fmt: skip
        with part("loss", "Floats reach it as float32, whole numbers as int64, each as the targets are stored."):
            loss = self._own(tensor_tree.as_outputs(outputs), targets)
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            given = list(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise BadUsage(f"The recipe's loss returns {given}, not one number.", "Let it return a mean or a sum.")
        if not loss.requires_grad:
            raise BadUsage(
                "The recipe's loss does not depend on the model: it has no gradient.",
                "Compute it with torch from what forward() returned, without detach(), item(), argmax or numpy.",
            )
        return loss

    def _class_weights(self, classes: int) -> torch.Tensor:
        """One a class: those of the recipe, or how rare each is in the training split, 1 on average."""
        chosen = self._recipe.class_weights
        if isinstance(chosen, str):
            labels = np.asarray(self._data.train.targets)
            labels = labels[labels != IGNORED]
            counts = np.bincount(labels, minlength=classes)
            # a class that never comes up has no weight, and needs none
            chosen = np.divide(labels.size / classes, counts, where=counts > 0, out=np.zeros(classes)).tolist()
        assert chosen is not None
        if len(chosen) != classes:
            raise BadUsage(
                f"The recipe has {len(chosen)} class weights, and the model scores {classes} classes.",
                "Give one weight for each class, in their order.",
            )
        return torch.tensor(chosen, dtype=torch.float32, device=self._device)
