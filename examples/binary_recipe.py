"""Yes or no as one logit: is a tumour malignant? Of the rarer answer an epoch sees as much as of the other.

nnx run examples/binary_recipe.py:recipe
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolchain.recipe import Dataset, Made, Recipe, Split, adam


def tumours() -> Dataset:
    """scikit-learn's 569 tumours (Wolberg et al. 1995): inputs ``(N, 30)``, targets ``(N,)``, 1 for malignant."""
    from sklearn.datasets import load_breast_cancer

    measured, benign = load_breast_cancer(return_X_y=True)
    return Dataset.shuffled(measured.astype(np.float32), (benign == 0).astype(np.float32), standardize=True)


def as_many_of_each(split: Split, generator: torch.Generator) -> Tensor:
    """Rows drawn so that both answers come up equally often."""
    malignant = torch.from_numpy(split.targets)
    weights = torch.where(malignant > 0, 1 / malignant.sum(), 1 / (1 - malignant).sum())
    return torch.multinomial(weights, len(split), replacement=True, generator=generator)


class Net(nn.Module):
    """(N, 30) -> (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(30, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, measured: Tensor) -> Tensor:
        logit: Tensor = self.layers(measured)[:, 0]
        return logit


recipe = Recipe(
    name="tumours",
    model=Net,
    data=lambda folder: Made("breast cancer of scikit-learn, seed 0", tumours),
    epochs=20,
    batch_size=32,
    lr=3e-3,
    optimizer=adam,
    loss=F.binary_cross_entropy_with_logits,
    metric="f1",
    sampler=as_many_of_each,
    input_name="measured",
    output_name="malignant",
)
