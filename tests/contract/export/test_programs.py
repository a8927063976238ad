"""A .pt2 file: its own examples and dynamic axes are taken, and nothing in it is run."""

import contextlib
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from exporters.input_tree import Input
from toolchain.conversion import exporting
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage
from toolchain.inputs import models, programs
from toolchain.inputs.examples import Kept


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("shift", torch.ones(3))

    def forward(self, x: torch.Tensor, parts: dict[str, torch.Tensor], *, times: int = 1) -> Any:
        return {"y": self.layer(x) * times + self.shift, "z": parts["a"] - parts["b"]}


def saved(path: Path, shapes: Any) -> Path:
    x, a = torch.randn(2, 5, 4), torch.randn(2, 6)
    program = torch.export.export(Net().eval(), (x, {"a": a, "b": a}), {"times": 3}, dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", [Dim("n"), Dim.AUTO])
def test_a_program_is_exported_with_its_own_axes(batch: Any, tmp_path: Path) -> None:
    shapes = {"x": {0: batch, 1: Dim.AUTO}, "parts": {"a": {0: batch}, "b": {0: batch}}, "times": None}
    made = programs.load(saved(tmp_path / "net.pt2", shapes))
    assert made.axes is not None
    assert made.axes["x"][0] == "batch"
    example = models.example_of(made, (), None)
    exporting._proven(made.module, tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    model = onnx.load(tmp_path / "m.onnx")
    taken = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    assert taken["x"] == ["batch", "x_1", 4]
    assert set(taken) == {"x", "parts.a", "parts.b"}
    assert "layer.bias" in {tensor.name for tensor in model.graph.initializer}


@pytest.mark.filterwarnings("ignore")
def test_what_is_fixed_stays_fixed(tmp_path: Path) -> None:
    made = programs.load(saved(tmp_path / "net.pt2", None))
    example = models.example_of(made, (), None)
    exporting._proven(made.module, tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    x = onnx.load(tmp_path / "m.onnx").graph.input[0]
    assert [axis.dim_value for axis in x.type.tensor_type.shape.dim] == [2, 5, 4]


class Trap:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", ["sample_inputs", "weights", "constants", "opaque"])
def test_nothing_in_a_program_runs(entry: str, tmp_path: Path) -> None:
    """Whatever entry of the archive is a pickle that runs code."""
    whole = saved(tmp_path / "net.pt2", None)
    trap = pickle.dumps(Trap(tmp_path / "ran"))
    replaced = []
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as target:
        for name in source.namelist():
            is_meant = entry in name and not name.endswith(".json")
            replaced += [name] if is_meant else []
            target.writestr(name, trap if is_meant else source.read(name))
        if entry == "opaque":
            target.writestr(f"{source.namelist()[0].partition('/')[0]}/data/constants/opaque_obj_0", trap)
            replaced.append(entry)
    if not replaced:
        pytest.skip(f"this torch writes no {entry}")
    with contextlib.suppress(BadUsage):
        programs.load(tmp_path / "bad.pt2")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("expression", ['__import__("os").system("touch {}")', "().__class__", "[1][0]", "open('x')"])
def test_no_expression_of_a_length_runs(expression: str, tmp_path: Path) -> None:
    """torch evaluates them."""
    whole = saved(
        tmp_path / "net.pt2", {"x": {0: Dim.AUTO}, "parts": {"a": {0: Dim.AUTO}, "b": {0: Dim.AUTO}}, "times": None}
    )
    wanted = json.dumps(expression.format(tmp_path / "ran"))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(".json"):
                content = re.sub(rb'"expr_str": "[^"]*"', f'"expr_str": {wanted}'.encode(), content)
            target.writestr(name, content)
    with pytest.raises(BadUsage, match="could run code"):
        programs.load(tmp_path / "bad.pt2")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore")
def test_compiled_code_in_an_archive_is_not_loaded(tmp_path: Path) -> None:
    whole = saved(tmp_path / "net.pt2", None)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/data/aotinductor/m/m.so", b"code")
    with pytest.raises(BadUsage, match=r"m\.so.*could run code"):
        programs.load(whole)


class Odd(nn.Module):
    def forward(self, x: torch.Tensor, *parts: torch.Tensor, mode: str = "x", **named: torch.Tensor) -> Any:
        return x + sum(parts) + named["z"]


@pytest.mark.filterwarnings("ignore")
def test_arguments_of_any_number_and_constants(tmp_path: Path) -> None:
    x = torch.randn(2, 4)
    program = torch.export.export(Odd(), (x, x, x), {"mode": "y", "z": x}, dynamic_shapes=None)
    torch.export.save(program, tmp_path / "net.pt2")
    made = programs.load(tmp_path / "net.pt2")
    example = models.example_of(made, (), None)
    exporting._proven(made.module, tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})


class Short(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x * 2 if x.shape[0] < 100 else x * 3


@pytest.mark.filterwarnings("ignore")
def test_the_lengths_that_a_program_was_exported_for_are_said(tmp_path: Path) -> None:
    shapes = ({0: Dim("n", min=2, max=99)},)
    torch.export.save(torch.export.export(Short(), (torch.ones(4, 3),), dynamic_shapes=shapes), tmp_path / "net.pt2")
    (note,) = programs.load(tmp_path / "net.pt2").notes
    assert "from 2 to 99" in note


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\3\4"])
def test_what_is_no_program(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(content)
    with pytest.raises(BadUsage):
        programs.load(tmp_path / "net.pt2")
    torch.save({}, tmp_path / "net.pt2")
    with pytest.raises(BadUsage):
        programs.load(tmp_path / "net.pt2")


class Beside(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return x * 2, y * 3 if y.shape[0] < 200 else y * 4


def test_what_is_assumed_of_a_length_that_follows_is_said(tmp_path: Path) -> None:
    """It has no length of its own at which that could be tried."""
    example = Kept(
        takes={"x": Input("x"), "y": Input("y")},
        arrays={"x": np.ones((3, 4), np.float32), "y": np.ones((6, 4), np.float32)},
        axes={"x": {0: "batch"}, "y": {0: "y_0"}},
        source="the test",
        follows={"y_0": lambda lengths: 2 * lengths["batch"]},
    )
    made = exporting._proven(Beside(), tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    assert "It holds where y_0 <= 199; it could not be tried where that is not so." in made.artifact.notes


class Pairs(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return torch.cat([x, x]) + y


@pytest.mark.filterwarnings("ignore")
def test_a_length_that_follows_from_another(tmp_path: Path) -> None:
    n = Dim("n")
    program = torch.export.export(
        Pairs(), (torch.randn(3, 4), torch.randn(6, 4)), dynamic_shapes={"x": {0: n}, "y": {0: 2 * n}}
    )
    torch.export.save(program, tmp_path / "net.pt2")
    made = programs.load(tmp_path / "net.pt2")
    assert made.axes == {"x": {0: "batch"}, "y": {0: "y_0"}}
    example = models.example_of(made, (), None)
    assert {name: len(array) for name, array in example.at({"batch": 5}).items()} == {"x": 5, "y": 10}
    exporting._proven(made.module, tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    taken = [value.type.tensor_type.shape.dim[0] for value in onnx.load(tmp_path / "m.onnx").graph.input]
    assert all(axis.dim_param for axis in taken)
