"""A user's metric that computes in PyTorch."""

import numpy as np
import torch

from toolchain.accuracy.metrics.own import of_function


def test_a_tensor_is_a_number_too() -> None:
    outputs, targets = np.arange(12.0).reshape(6, 2), np.zeros((6, 2))
    each = of_function(lambda o, t: torch.tensor(o, requires_grad=True).sum(1), "my.py:f", higher_is_better=True)
    assert each.of(outputs, targets) == 11
    over_all = of_function(lambda o, t: torch.tensor(0.25, requires_grad=True), "my.py:f", higher_is_better=True)
    assert over_all.of(outputs, targets) == 0.25
