"""Multiply-accumulates of exported models beside PyTorch's own count, which is of two operations for each."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from exporters.model_file import ModelFile
from tests.contract.tiny_models import MODELS
from toolchain.inspection.describe import describe


@pytest.mark.parametrize("name", MODELS)
def test_the_same_as_pytorch_counts(name: str, exported: Callable[[str], Path]) -> None:
    module = MODELS[name].module()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.from_numpy(MODELS[name].samples(3)["x"]))
    file = ModelFile(exported(name))
    axis = file.inputs[0].shape[0]
    assert isinstance(axis, str)
    found = describe(file, {axis: 3}, ask=False)
    assert 2 * found.work.macs == counter.get_total_flops()
    weights = sum(weight.numel() for weight in module.parameters() if weight.dim() > 1)
    assert weights <= found.parameters <= sum(weight.numel() for weight in module.parameters()) + 64
