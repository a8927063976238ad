"""Real calls say what a model takes, and which of its axes are dynamic."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from toolchain.conversion import exporting
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage
from toolchain.inputs import calls


class Net(nn.Module):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None, *parts: Any, scale: float = 1.0) -> Any:
        y = ids.float() * scale
        y = y if mask is None else y * mask
        return {"sum": y.sum(1), "all": y}


HEADER = "import torch\nids = lambda n, s: torch.arange(n * s).reshape(n, s)\n"


def named(folder: Path, text: str) -> str:
    (folder / "made.py").write_text(HEADER + text)
    return f"{folder / 'made.py'}:calls"


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("calls = [{'ids': ids(2, 5)}, {'ids': ids(3, 7)}]", {"ids": {0: "batch", 1: "ids_1"}}),
        ("calls = [ids(2, 5), ids(2, 7)]", {"ids": {0: "batch", 1: "ids_1"}}),
        ("calls = [(ids(2, 5), torch.ones(2, 5)), (ids(2, 7), torch.ones(2, 7))]",
         {"ids": {0: "batch", 1: "ids_1"}, "mask": {0: "batch", 1: "ids_1"}}),
        ("calls = [((ids(2, 5),), {'mask': torch.ones(1, 5)}), ((ids(2, 7),), {'mask': torch.ones(1, 7)})]",
         {"ids": {1: "ids_1"}, "mask": {1: "ids_1"}}),
        ("calls = [{'ids': ids(1, 5)}, {'ids': ids(1, 7), 'mask': torch.ones(1, 7)}]",
         {"ids": {0: "batch", 1: "ids_1"}, "mask": {0: "batch", 1: "ids_1"}}),
        ("def calls():\n    for n in (5, 6):\n        yield {'ids': ids(n, 4), 'scale': 2.0}", {"ids": {0: "batch"}}),
    ],
)  # fmt: skip
def test_what_changes_is_dynamic(text: str, axes: Any, tmp_path: Path) -> None:
    example = calls.of_calls(named(tmp_path, text), Net())
    assert example.axes == axes


def test_an_export_is_proven_on_each_call(tmp_path: Path) -> None:
    text = (
        "calls = [{'ids': ids(2, 5), 'scale': 2.0}, {'ids': ids(3, 9), 'scale': 2.0}, {'ids': ids(1, 7), 'scale': 2.0}]"
    )
    example = calls.of_calls(named(tmp_path, text), Net())
    assert [array["ids"].shape for array in example.others] == [(2, 5), (1, 7)]
    made = exporting._proven(Net(), tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    assert made.proven_on == named(tmp_path, text)
    (taken,) = onnx.load(tmp_path / "m.onnx").graph.input
    assert [axis.dim_param for axis in taken.type.tensor_type.shape.dim] == ["batch", "ids_1"]


class Default(nn.Module):
    def forward(self, x: torch.Tensor, scale: float | None = 2.0) -> Any:
        return x * (5.0 if scale is None else scale)


def test_a_none_that_is_no_default_is_given(tmp_path: Path) -> None:
    example = calls.of_calls(named(tmp_path, "calls = [{'x': torch.ones(2, 3), 'scale': None}]"), Default())
    assert example.takes["scale"] is None


def test_calls_that_leave_inputs_out_are_said(tmp_path: Path) -> None:
    text = "calls = [{'ids': ids(1, 5)}, {'ids': ids(1, 7), 'mask': torch.ones(1, 7)}]"
    example = calls.of_calls(named(tmp_path, text), Net())
    assert not example.others
    assert "1 of the calls leave inputs out" in example.notes[0]


def test_channels_as_many_as_samples_are_no_batch(tmp_path: Path) -> None:
    text = "calls = [{'x': torch.ones(2, 2, 5)}, {'x': torch.ones(2, 2, 9)}]"
    example = calls.of_calls(named(tmp_path, text.replace("'x'", "'input'")), nn.Identity())
    assert example.axes == {"input": {0: "batch", 2: "input_2"}}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("calls = [{'ids': ids(2, 5), 'scale': 2.0}, {'ids': ids(2, 7), 'scale': 3.0}]", "'scale' is another constant"),
        ("calls = [{'ids': ids(2, 5)}] * 33", "more than 32 calls"),
        ("calls = []", "gives no call"),
        ("calls = 3", "not a list of calls"),
        ("calls = {'ids': ids(2, 5)}", "not a list of calls"),
        ("calls = [3]", "call 1 of .* is a int"),
        ("calls = [{'scale': 2.0, 'ids': None}]", "gives no tensor"),
        ("calls = [{'id': ids(2, 5)}]", "does not fit forward"),
        ("calls = [{}]", "does not fit forward"),
        ("calls = [{'ids': ids(2, 5)}, {'ids': ids(2, 5).float()}]", "int64 of 2 axes .* float32 of 2 axes in call 2"),
        ("def calls():\n    raise ValueError('no')", "raised ValueError: no"),
        ("calls = [{'ids': ids(2, 5).bfloat16()}]", "bfloat16"),
    ],
)
def test_what_is_no_call(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match=what):
        calls.of_calls(named(tmp_path, text), Net())
