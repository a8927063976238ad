"""A number for each sample: how far diabetes has gone in a year, of ten measurements; the loss and the metric say so.

nnx run examples/regression_recipe.py:recipe
"""

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from toolchain.recipe import Dataset, Made, Recipe, adam


def diabetes() -> Dataset:
    """scikit-learn's 442 patients (Efron et al. 2004): inputs ``(N, 10)``, targets ``(N,)`` from 25 to 346."""
    from sklearn.datasets import load_diabetes

    measured, progression = load_diabetes(return_X_y=True)
    return Dataset.shuffled(measured.astype(np.float32), progression.astype(np.float32), standardize=True)


class Net(nn.Module):
    """(N, 10) -> (N,): the last layer begins near the mean, which saves it the way there."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.1)), nn.Linear(64, 1)

    def forward(self, measured: Tensor) -> Tensor:
        deviations: Tensor = self.last(self.hidden(measured))[:, 0]
        return 152 + 77 * deviations


def groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Weights decay, biases do not."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    return [{"params": weights, "weight_decay": 1e-3}, {"params": biases, "lr": 2 * lr}]


recipe = Recipe(
    name="diabetes",
    model=Net,
    data=lambda folder: Made("diabetes of scikit-learn, seed 0", diabetes),
    epochs=60,
    batch_size=32,
    lr=3e-3,
    optimizer=adam,
    parameter_groups=groups,
    loss=F.smooth_l1_loss,
    metric="mae",
    patience=20,
    input_name="measured",
    output_name="progression",
)
