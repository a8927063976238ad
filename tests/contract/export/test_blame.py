"""What is told of a module names the layer that it is about."""

from typing import Any

import pytest
import torch
from torch import nn

from toolchain.conversion.settling import settle
from toolchain.errors import CheckFailed
from toolchain.inputs import examples


class Always(nn.Dropout):
    def forward(self, x: torch.Tensor) -> Any:
        return nn.functional.dropout(x, 0.5, training=True)


class Counts(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        self.times = getattr(self, "times", 0) + 1
        return x + self.times


class OverBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x - x.mean(0, keepdim=True)


def net(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), *layers, nn.Linear(8, 2))


@pytest.mark.parametrize(("layer", "named"), [(Always(), "'1' (Always)"), (Counts(), "'1' (Counts)")])
def test_what_gives_another_answer_each_time(layer: nn.Module, named: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        settle(net(layer), examples.of_specs(["x=float32[1,4]"]))
    assert f"first in {named}" in caught.value.what


@pytest.mark.parametrize(
    ("layer", "named"),
    [(OverBatch(), "'1.0' (OverBatch)"), (nn.BatchNorm1d(8, track_running_stats=False), "'1.0' (BatchNorm1d)")],
)
def test_samples_that_influence_each_other(layer: nn.Module, named: str) -> None:
    _, found = settle(net(nn.Sequential(layer), nn.ReLU()), examples.of_specs(["x=float32[1,4]"]))
    assert [note for note in found.notes if f"influence each other, first in {named}" in note]


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.LayerNorm(8), nn.Softmax(-1), nn.Identity()])
def test_samples_that_do_not(layer: nn.Module) -> None:
    _, found = settle(net(layer), examples.of_specs(["x=float32[1,4]"]))
    assert not [note for note in found.notes if "influence" in note]


def test_a_state_of_two_directions_is_no_batch_of_two() -> None:
    """Its first axis is as long as the batch that is traced."""
    _, found = settle(nn.GRU(4, 6, bidirectional=True, batch_first=True), examples.of_specs(["x=float32[1,5,4]"]))
    assert not [note for note in found.notes if "influence" in note]


class Turns(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        self.times = getattr(self, "times", 0) + 1
        return {f"y{self.times}": x}


def test_other_outputs_at_each_call() -> None:
    with pytest.raises(CheckFailed, match="another answer"):
        settle(Turns(), examples.of_specs(["x=float32[1,4]"]))
