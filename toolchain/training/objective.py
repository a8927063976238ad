"""What a training step lowers: cross-entropy, or the recipe's own loss."""

import copy
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

    def __call__(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Raises BadUsage for a loss that fails, or is no scalar that depends on the model."""
        loss = self._of if batch.mix is None else lambda *given: batch.mix.of_loss(self._of, *given)  # type: ignore[union-attr]
        return loss(outputs, batch.targets)

    def _of(self, outputs: Any, targets: Any) -> torch.Tensor:
        if self._own is None:
            if self._recipe.class_weights is not None and self._weights is None:
                self._weights = self._class_weights(outputs.shape[1])
            return F.cross_entropy(
                outputs.float(), targets, weight=self._weights, label_smoothing=self._recipe.label_smoothing
            )
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
