"""Inputs as people write forward(): each is exported, proven, and its file takes what was described and no more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exporters.errors import BadOption
from toolchain.conversion import exporting
from toolchain.conversion.proof import Proven
from toolchain.conversion.settling import settle
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage
from toolchain.inputs import examples, models
from toolchain.inputs.factories import Made


@dataclass
class Batch:
    image: torch.Tensor
    scale: float = 2.0
    mask: torch.Tensor | None = None


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


class Positional(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor, /, c: torch.Tensor) -> Any:
        return a - b * c


class Keywords(nn.Module):
    def forward(self, x: torch.Tensor, *, mask: torch.Tensor | None = None, times: int = 1, mode: str = "sum") -> Any:
        y = x * times if mask is None else x * times * mask
        return y.sum(1) if mode == "sum" else y.mean(1)


class Listed(nn.Module):
    def forward(self, parts: list[torch.Tensor]) -> Any:
        return parts[0] - parts[1]


class Keyed(nn.Module):
    def forward(self, batch: dict[str, torch.Tensor], *, deep: bool = False) -> Any:
        return {"out": batch["left"] - batch["right"] * (2 if deep else 1)}


class OfDataclass(nn.Module):
    def forward(self, batch: Batch) -> Any:
        y = batch.image * batch.scale
        return y if batch.mask is None else y * batch.mask


class OfTuple(nn.Module):
    def forward(self, pair: Pair) -> Any:
        return Pair(pair.left - pair.right, pair.right)


class Anything(nn.Module):
    def forward(self, *parts: torch.Tensor, **named: torch.Tensor) -> Any:
        return sum(parts) if parts else named["x"] - named["y"]


class Time(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 4)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> Any:
        return x + self.embed(t.float().reshape(1, 1))


class Ids(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 4)

    def forward(self, ids: torch.Tensor) -> Any:
        return self.table(ids).mean(1)


X, Y = torch.randn(2, 4), torch.randn(2, 4)
DESCRIBED: dict[str, tuple[nn.Module, Sequence[str], list[str]]] = {
    "by position": (Positional(), ["p=float32[1,4]", "q=float32[1,4]", "r=float32[1,4]"], ["p", "q", "r"]),
    "by name": (Positional(), ["b=float32[1,4]", "c=float32[1,4]", "a=float32[1,4]"], ["b", "c", "a"]),
    "an optional one left out": (Keywords(), ["x=float32[1,4]"], ["x"]),
    "an optional one given": (Keywords(), ["x=float32[1,4]", "mask=float32[1,4]"], ["x", "mask"]),
    "constants": (Keywords(), ["x=float32[1,4]", "times=3", 'mode="mean"', "mask=null"], ["x"]),
    "a list": (Listed(), ["parts.0=float32[1,4]", "parts.1=float32[1,4]"], ["parts.0", "parts.1"]),
    "a dict": (Keyed(), ["batch.right=float32[1,4]", "batch.left=float32[1,4]"], ["batch.right", "batch.left"]),
    "a dict and a flag": (
        Keyed(), ["batch.left=float32[1,4]", "batch.right=float32[1,4]", "deep=true"], ["batch.left", "batch.right"]),
    "any number": (Anything(), ["u=float32[1,4]", "v=float32[1,4]"], ["u", "v"]),
    "a 0-d tensor": (Time(), ["x=float32[1,4]", "t=int64[]<1000"], ["x", "t"]),
    "no batch": (Time(), ["x=float32[len,4]", "t=float32[]"], ["x", "t"]),
    "ids in a range": (Ids(), ["ids=int64[batch,seq]<50"], ["ids"]),
}  # fmt: skip
GIVEN: dict[str, tuple[nn.Module, Mapping[str, Any], list[str]]] = {
    "a dataclass": (OfDataclass(), {"batch": Batch(X, 3.0)}, ["batch.image"]),
    "a dataclass with all": (OfDataclass(), {"batch": Batch(X, 3.0, Y)}, ["batch.image", "batch.mask"]),
    "a named tuple": (OfTuple(), {"pair": Pair(X, Y)}, ["pair.left", "pair.right"]),
    "a list": (Listed(), {"parts": [X, Y]}, ["parts.0", "parts.1"]),
    "a dict": (Keyed(), {"batch": {"right": X, "left": Y}, "deep": True}, ["batch.right", "batch.left"]),
    "any keywords": (Anything(), {"y": X, "x": Y}, ["y", "x"]),
    "a number": (Keywords(), {"x": X, "times": 3}, ["x"]),
}


def exported(module: nn.Module, given: Mapping[str, Any] | None, specs: Sequence[str], path: Path) -> Proven:
    example = models.example_of(Made(name="made", module=module, examples=given), specs, None)
    return exporting._proven(module, path, example, output_names=(), target=Target(), facts={})


@pytest.mark.parametrize(("module", "specs", "names"), DESCRIBED.values(), ids=DESCRIBED)
def test_described(module: nn.Module, specs: Sequence[str], names: list[str], tmp_path: Path) -> None:
    made = exported(module, None, specs, tmp_path / "m.onnx")
    assert made.parity.passed
    assert [value.name for value in onnx.load(tmp_path / "m.onnx").graph.input] == names


@pytest.mark.parametrize(("module", "given", "names"), GIVEN.values(), ids=GIVEN)
def test_given(module: nn.Module, given: Mapping[str, Any], names: list[str], tmp_path: Path) -> None:
    made = exported(module, given, (), tmp_path / "m.onnx")
    assert made.parity.passed
    assert [value.name for value in onnx.load(tmp_path / "m.onnx").graph.input] == names


@pytest.mark.parametrize(
    ("specs", "what"),
    [
        (["batch=float32[1,4]", "batch.left=float32[1,4]"], "lies in 'batch'"),
        (["batch.left=float32[1,4]", "bach.right=float32[1,4]"], "forward() takes batch, deep"),
        (["deep=true"], "nothing is given for batch"),
    ],
)
def test_what_forward_does_not_take(specs: list[str], what: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption) as caught:
        exported(Keyed(), None, specs, tmp_path / "m.onnx")
    assert what in caught.value.what


class Clashing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.ones(4))
        self.weight = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x: torch.Tensor) -> Any:
        return {"weight": x * self.x, "module.a": x * self.weight, "a": {"b": x + 1}, "a.b": x + 2}


class Numbers(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return {"twice": x * 2, "rows": x.shape[0], "three": 3, "half": 0.5, "yes": True, "no": None}


def outputs(path: Path) -> list[str]:
    return [value.name for value in onnx.load(path).graph.output]


def test_names_that_clash_with_weights_and_each_other(tmp_path: Path) -> None:
    exported(Clashing(), None, ["x=float32[1,4]"], tmp_path / "m.onnx")
    assert outputs(tmp_path / "m.onnx") == ["weight", "module.a", "a.b", "a.b_output"]


def test_numbers_are_outputs_too(tmp_path: Path) -> None:
    exported(Numbers(), None, ["x=float32[1,4]"], tmp_path / "m.onnx")
    assert outputs(tmp_path / "m.onnx") == ["twice", "rows", "three", "half", "yes"]


def test_two_inputs_of_one_flattened_name_are_refused(tmp_path: Path) -> None:
    given = {"batch": {"a": {"b": X}, "a.b": Y}}
    with pytest.raises(BadOption, match="Two of the inputs"):
        exported(Keyed(), given, (), tmp_path / "m.onnx")


def test_constants_of_the_models_own_examples_stay_where_data_is_given(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X.numpy())
    made = Made(name="made", module=Keywords(), examples={"x": X, "mask": Y, "times": 3})
    example = models.example_of(made, (), str(tmp_path / "x.npz"))
    assert example.takes["times"] == 3
    assert list(example.axes) == ["x"]


def test_a_net_that_hears_waves_may_want_some_hundred_samples() -> None:
    _, found = settle(torch.nn.Conv1d(1, 2, 400, stride=160), examples.of_specs(["input=float32[batch,1,samples]"]))
    assert found.lengths["samples"] >= 400


def test_a_volume_that_fits_at_no_length_is_refused_by_what_pytorch_says() -> None:
    with pytest.raises(BadUsage, match="channels"):
        settle(torch.nn.Conv3d(3, 2, 3), examples.of_specs(["x=float32[batch,1,d,h,w]"]))
