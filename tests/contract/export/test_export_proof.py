"""From a module to a proven file: what is right passes at every size, what is not is refused with the reason."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from exporters.errors import ExporterError
from toolchain.conversion import export_proof, exporting
from toolchain.conversion.proof import Proven
from toolchain.conversion.settling import settle
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage, CheckFailed, NnxError
from toolchain.inputs import examples, models
from toolchain.inputs.factories import Made


class Does(nn.Module):
    """Any function as a module, with a few weights and tables for it."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.words = nn.Linear(4, 8), nn.Embedding(50, 4)
        self.register_buffer("calls", torch.zeros(()))
        self._how = how

    def forward(self, x: torch.Tensor) -> Any:
        return self._how(self, x)


def made(module: nn.Module, dst: Path, specs: Sequence[str] = ("x=float32[1,4]",), names: Sequence[str] = ()) -> Proven:
    example = examples.of_specs(specs)
    return exporting._proven(module, dst, example, output_names=names, target=Target(), facts={})


def shapes(path: Path) -> list[list[str | int]]:
    graph = onnx.load(path).graph
    values = (*graph.input, *graph.output)
    return [[axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values]


def _coupled(self: Any, x: torch.Tensor) -> torch.Tensor:
    z = F.normalize(self.linear(x), dim=-1)
    return z @ z.T


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (_coupled, ["batch", "batch"]),
        (lambda self, x: x.pow(2).mean(), []),
        (lambda self, x: F.batch_norm(x, None, None, training=True), ["batch", 4]),
        (lambda self, x: torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)), ["batch", 4]),
        (lambda self, x: x.reshape(-1, 2), ["2*batch", 2]),
        (lambda self, x: x.sub_(1).mul_(3), ["batch", 4]),
        (lambda self, x: x.T, [4, "batch"]),
        (lambda self, x: torch.where(x > 0, float("-inf"), x), ["batch", 4]),
        (lambda self, x: x.argmax(1), ["batch"]),
        (lambda self, x: self.words.weight[:3], [3, 4]),
    ],
    ids=[
        "contrastive",
        "scalar",
        "batch norm",
        "cond",
        "windows",
        "in place",
        "batch last",
        "inf",
        "index",
        "constant",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_right_at_every_size_is_written(how: Any, wanted: list[str | int], tmp_path: Path) -> None:
    proven = made(Does(how), tmp_path / "m.onnx")
    assert proven.parity.passed
    assert shapes(tmp_path / "m.onnx")[1] == wanted


@pytest.mark.parametrize(
    ("how", "named"),
    [
        (lambda self, x: x * 2 if x.shape[0] >= 16 else x + 1, "batch is 16.*batch <= 15"),
        (lambda self, x: x * 2 if x.shape[0] == 5 else x + 1, "batch is 5"),
        (lambda self, x: x - 1 if x.shape[0] * 3 > 400 else x, "batch is 1.*3\\*batch <= 400"),
        (lambda self, x: x * self.calls.add_(1), "buffer calls, and its answer depends"),
        (lambda self, x: F.dropout(x, 0.5), "another answer when it is called again"),
        (lambda self, x: x.log(), "NaN on random inputs.*--samples"),
        (lambda self, x: torch.fft.fft(x), "complex numbers as 'output'"),
        (lambda self, x: x @ torch.zeros(5, 5), "does not run on these inputs"),
        (lambda self, x: exec("raise SystemExit(3)"), "SystemExit"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_is_refused_with_the_reason(how: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises((NnxError, ExporterError)) as caught:
        made(Does(how), tmp_path / "m.onnx")
    assert isinstance(caught.value, (NnxError, ExporterError))
    assert re.search(named, f"{caught.value.what} {caught.value.do}")
    assert not list(tmp_path.iterdir())


def test_a_buffer_that_changes_nothing_is_told(tmp_path: Path) -> None:
    def how(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return x + 1

    assert "buffer calls" in " ".join(made(Does(how), tmp_path / "m.onnx").artifact.notes)


def test_a_module_in_half_precision_is_exported_in_fp32_and_says_so(tmp_path: Path) -> None:
    proven = made(nn.Linear(4, 2).half(), tmp_path / "m.onnx", ["x=float16[1,4]"])
    assert "float16" in " ".join(proven.artifact.notes)
    assert onnx.load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_one_that_casts_inside_to_what_onnx_runtime_lacks_is_refused(tmp_path: Path) -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 2).bfloat16()

        def forward(self, x: torch.Tensor) -> Any:
            return self.a(x.bfloat16()).float()

    with pytest.raises(BadUsage, match="computes in bf16 inside"):
        made(Inside(), tmp_path / "m.onnx")


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 2, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.c(x), size=x.shape[-2:], mode="bilinear")


class Last(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.r = nn.LSTM(8, 12, batch_first=batch_first)

    def forward(self, x: torch.Tensor) -> Any:
        return self.r(x)


@pytest.mark.parametrize(
    ("module", "spec", "wanted"),
    [
        (Pooled(), "x=float32[1,3,h,w]", [["batch", 3, "h", "w"], ["batch", 2, "h", "w"]]),
        (Last(True), "x=float32[1,t,8]", [["batch", "t", 8], ["batch", "t", 12], [1, "batch", 12], [1, "batch", 12]]),
        (Last(False), "x=float32[5,N,8]", [[5, "batch", 8], [5, "batch", 12], [1, "batch", 12], [1, "batch", 12]]),
    ],
    ids=["height and width", "time", "batch second"],
)
@pytest.mark.filterwarnings("ignore")
def test_named_axes_are_dynamic(module: nn.Module, spec: str, wanted: Any, tmp_path: Path) -> None:
    made(module, tmp_path / "m.onnx", [spec])
    assert shapes(tmp_path / "m.onnx") == wanted


def test_two_names_of_one_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises((ExporterError, BadUsage)):
        made(Does(lambda self, x: x + x.mT), tmp_path / "m.onnx", ["x=float32[1,h,w]"])


def test_an_input_beside_it_may_have_no_batch_and_ids_reach_the_whole_table(tmp_path: Path) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(50, 4)
            self.seen = 0

        def forward(self, ids: torch.Tensor, table: torch.Tensor, t: torch.Tensor) -> Any:
            return self.words(ids).sum(1) @ table / t

    specs = ["table=float32[4,3]", "ids=int64[1,6]", "t=float32[]"]
    example = examples.of_specs(specs)
    assert example.at({"batch": 2})["t"].shape == ()
    made(Table(), tmp_path / "m.onnx", ["ids=int64[1,6]", *specs[::2]])
    assert shapes(tmp_path / "m.onnx") == [["batch", 6], [4, 3], [], ["batch", 3]]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "a"], ["x", "b"]])
def test_names_of_outputs_must_fit(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(BadUsage):
        made(Does(lambda self, x: (x + 1, {"f": (x * 2, None)})), tmp_path / "m.onnx", names=names)


def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.conversion.reference.Reference.run", _wrong)
    with pytest.raises(CheckFailed, match="Parity failed: the export at batch"):
        made(nn.Linear(4, 2), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def _wrong(self: Any, arrays: Any) -> Any:
    return {"output": np.full((len(arrays["x"]), 2), 7.0, np.float32)}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> Any:
        return self.layer(x, state)


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(20, 4, mode="sum")

    def forward(self, ids: torch.Tensor, starts: torch.Tensor) -> Any:
        return self.table(ids, starts)


def test_the_batch_of_a_state_is_its_second_axis(tmp_path: Path) -> None:
    given = {"x": torch.randn(2, 5, 4), "state": (torch.randn(1, 2, 3), torch.randn(1, 2, 3))}
    example = models.example_of(Made(name="made", module=nn.Identity(), examples=given), (), None)
    exporting._proven(Recurrent(), tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    state = [1, "batch", 3]
    assert shapes(tmp_path / "m.onnx") == [["batch", 5, 4], state, state, ["batch", 5, 3], state, state]


def test_what_reaches_into_a_batch_keeps_it_as_long_as_it_was_given(tmp_path: Path) -> None:
    given = {"ids": torch.arange(10), "starts": torch.tensor([0, 4, 7])}
    example = models.example_of(Made(name="made", module=nn.Identity(), examples=given), (), None)
    done = exporting._proven(Bags(), tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    assert shapes(tmp_path / "m.onnx") == [["batch"], [3], [3, 4]]
    assert "forward() itself does not run with batch 1." in done.artifact.notes


def test_nothing_that_torch_says_while_it_fails_reaches_the_user(tmp_path: Path, capfd: Any) -> None:
    with pytest.raises(ExporterError, match="data-dependent"):
        made(Does(lambda self, x: x * 2 if x.sum() > 0 else x), tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")


def test_beyond_the_lengths_that_a_model_is_made_for_nothing_is_asked(tmp_path: Path) -> None:
    """As where a table of places grows in forward(): a file keeps the one that it has."""
    module = Does(lambda self, x: self.linear(x) * 2 if x.shape[1] > 100 else self.linear(x) + 1)
    example = examples.of_arrays({"x": np.ones((3, 9, 4), np.float32)}, "ones", axes={"x": {0: "batch", 1: "time"}})
    with pytest.raises(ExporterError, match="another road"):
        exporting._proven(module, tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    limited = replace(example, limits={"time": 100})
    made = exporting._proven(module, tmp_path / "m.onnx", limited, output_names=(), target=Target(), facts={})
    assert "The model is made for a time of at most 100: beyond, nothing is proven." in made.artifact.notes


class Places(nn.Module):
    """A table of positions that grows where it is too short, as in many models: a file keeps the one that it has."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.table: torch.Tensor
        self.register_buffer("table", self._made(count), persistent=False)

    def _made(self, count: int) -> torch.Tensor:
        return torch.sin(torch.arange(count).float()[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > self.table.shape[0]:
            self.table = self._made(2 * x.shape[1])
        return x + self.table.index_select(0, torch.arange(x.shape[1]))


def of_time(path: Path, module: nn.Module, length: int, *, width: int = 4) -> Any:
    example = examples.of_arrays(
        {"x": np.random.default_rng(0).normal(size=(2, length, width)).astype(np.float32)}, "given",
        axes={"x": {0: "batch", 1: "time"}},
    )  # fmt: skip
    return exporting._proven(module, path, example, output_names=(), target=Target(), facts={})


def test_a_table_that_grows_is_a_limit_of_the_file(tmp_path: Path) -> None:
    done = of_time(tmp_path / "m.onnx", Places(40), 9)
    assert "The file takes a time of at most 40: beyond, where PyTorch runs, it does not." in done.artifact.notes


def test_a_branch_is_no_limit_though_the_file_does_not_run_right_behind_it(tmp_path: Path) -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] <= 512:
            return x.reshape(x.shape[0], -1, 64).mean(-1)
        return x[:, : x.shape[1] // 8 * 8].reshape(x.shape[0], -1, 64).amax(-1)

    with pytest.raises(ExporterError, match="another road where time"):
        of_time(tmp_path / "m.onnx", Does(forward), 16, width=8)


def test_at_its_limit_an_axis_is_proven_at_shorter_lengths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = replace(
        examples.of_arrays({"x": np.ones((2, 16, 4), np.float32)}, "given", axes={"x": {0: "batch", 1: "time"}}),
        limits={"time": 16},
    )
    _, found = settle(Places(16), example)
    lengths = {each["time"] for each, _ in export_proof._calls(found, example.limits)}
    assert len(lengths) >= 3
    assert max(lengths) == 16
