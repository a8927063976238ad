"""Where one way of capturing a module fails, or gives a file that is wrong, the next is tried; all are told."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exporters import torch_module, torch_onnx, torch_rungs
from exporters.errors import ExporterError, NotExportable
from exporters.input_tree import Input
from exporters.torch_rungs import Rung
from toolchain.conversion import exporting
from toolchain.conversion.proof import Proven
from toolchain.conversion.target import Target
from toolchain.errors import CheckFailed
from toolchain.inputs import examples
from toolchain.progress import Progress

WAYS: list[Rung] = [each for each in Rung if each is not Rung.TRANSFORMERS]  # no model here has layers of that library


class Windows(nn.Module):
    """Attention whose bias is computed, and whose result is given the input's shape: as timm's MaxViT."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.bias = nn.Linear(16, 48), nn.Linear(2, 2)
        self.register_buffer("places", torch.rand(16, 16, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).view(x.shape[0], -1, 2, 24).transpose(1, 2).chunk(3, dim=3)
        bias = self.bias(self.places).permute(2, 0, 1).unsqueeze(0)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return seen.transpose(1, 2).reshape((*x.shape[:-1], -1))


class Recurrent(nn.Module):
    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.layer = kind(4, 3, **settings)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> Any:
        return self.layer(x, state)


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]


class Told(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Frozen(nn.Module):
    """torch.export makes len() a number; its strict way does not."""

    def forward(self, x: torch.Tensor) -> Any:
        return x + torch.tensor(float(len(x)))


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        doubled = x * 2
        if doubled.sum() > 0:
            return doubled
        return x


class Untranslated(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        squares = x.unsqueeze(2) * x.unsqueeze(1)
        return torch.linalg.eigvalsh(squares)


class Compares(nn.Module):
    """No warning of torch's tracing tells of it."""

    def forward(self, x: torch.Tensor) -> Any:
        if torch.equal(x, torch.zeros_like(x)):
            return x + 100
        return x * 2


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x) + x.shape[0]


def line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip() == text)


def made(module: nn.Module, path: Path, told: Told) -> Proven:
    example = examples.of_specs(["x=float32[2,4]"])
    return exporting._proven(module, path, example, output_names=(), target=Target(), facts={}, progress=told)


def test_the_next_way_is_tried_where_an_axis_became_fixed(tmp_path: Path) -> None:
    told = Told()
    done = made(Frozen(), tmp_path / "m.onnx", told)
    line = line_of("return x + torch.tensor(float(len(x)))")
    assert told.notes == [f"torch.export: The batch axis of 'x' became fixed at 2, in test_ladder.py, line {line}."]
    assert "It was captured by torch.export, strict." in done.artifact.notes


def test_how_torch_lays_out_what_attention_gives_is_in_no_way(tmp_path: Path) -> None:
    told = Told()
    example = examples.of_specs(["x=float32[batch,4,4,16]"])
    path = tmp_path / "m.onnx"
    exporting._proven(Windows(), path, example, output_names=(), target=Target(), facts={}, progress=told)
    assert told.notes == []


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("settings", [{}, {"batch_first": True}, {"bidirectional": True, "num_layers": 2}], ids=str)
def test_recurrent_layers_are_of_any_length(kind: type[nn.Module], settings: Any, tmp_path: Path) -> None:
    told, path = Told(), tmp_path / "m.onnx"
    specs = ["x=float32[batch,time,4]" if "batch_first" in settings else "x=float32[time,batch,4]"]
    if kind is nn.GRU:
        layers = settings.get("num_layers", 1) * (2 if "bidirectional" in settings else 1)
        specs.append(f"state=float32[{layers},batch,3]")
    module, example = Recurrent(kind, **settings), examples.of_specs(specs)
    exporting._proven(module, path, example, output_names=(), target=Target(), facts={}, progress=told)
    assert told.notes == []
    dims = onnx.load(path).graph.output[0].type.tensor_type.shape.dim
    assert {dims[0].dim_param, dims[1].dim_param} == {"batch", "time"}


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (Recurrent(nn.RNN), {"x": np.ones((5, 3, 4), np.float32)}),
        (Packed(), {"x": np.ones((3, 5, 4), np.float32), "lengths": np.array([5, 3, 2])}),
    ],
    ids=["RNN", "packed"],
)
def test_the_older_exporter_follows_torchs_own_layers(
    module: nn.Module, given: dict[str, np.ndarray], tmp_path: Path
) -> None:
    told, path = Told(), tmp_path / "m.onnx"
    example = examples.of_arrays(given, "given")
    done = exporting._proven(module, path, example, output_names=(), target=Target(), facts={}, progress=told)
    assert "It was captured by the older exporter." in done.artifact.notes


def test_an_encoder_with_a_padding_mask_is_compared_off_pytorchs_fast_path(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> Any:
            return self.layers(x, src_key_padding_mask=mask)

    mask = np.array([[False] * 5, [False, False, False, True, True]])
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    example = examples.of_arrays({"x": x, "mask": mask}, "given")
    told, path = Told(), tmp_path / "m.onnx"
    done = exporting._proven(Masked(), path, example, output_names=(), target=Target(), facts={}, progress=told)
    assert told.notes == []
    assert any("set_fastpath_enabled(False)" in note for note in done.artifact.notes)


class DecoderOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 32, batch_first=True), 1)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor) -> Any:
        return self.layers(x, memory, tgt_mask=mask, memory_mask=mask)


class Classes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.AdaptiveLogSoftmaxWithLoss(16, 40, [10, 20])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer.predict(x)


CAUSAL = np.triu(np.full((6, 6), -np.inf, np.float32), 1)


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (
            DecoderOnly(),
            {"x": np.ones((2, 6, 16), np.float32), "memory": np.ones((2, 6, 16), np.float32), "mask": CAUSAL},
        ),
        (Classes(), {"x": np.ones((4, 16), np.float32)}),
    ],
    ids=["whether a mask is causal", "which classes are asked for"],
)
def test_what_torchs_own_layers_decide_by_values_is_not_followed(
    module: nn.Module, given: dict[str, np.ndarray], tmp_path: Path
) -> None:
    told = Told()
    example = examples.of_arrays(given, "given")
    with pytest.raises(ExporterError):
        exporting._proven(
            module, tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={}, progress=told
        )
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("broken", [1, 2, 3])
def test_each_way_makes_a_right_file(broken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones are kept from working."""
    real = torch_rungs.captured

    def captured(capture: Any, rung: Rung) -> Any:
        if WAYS.index(rung) < broken:
            raise NotExportable("It was kept from working.", "Wait.")
        return real(capture, rung)

    monkeypatch.setattr(torch_onnx, "captured", captured)
    told = Told()
    done = made(Plain(), tmp_path / "m.onnx", told)
    rung = WAYS[broken]
    assert told.notes == [f"{each.value}: It was kept from working." for each in WAYS[:broken]]
    assert f"It was captured by {rung.value}." in done.artifact.notes
    value = onnx.load(tmp_path / "m.onnx").graph.output[0]
    assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_what_python_decides_by_values_is_not_followed(tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(NotExportable):
        made(Compares(), tmp_path / "m.onnx", told)
    assert "decides by a tensor's values in forward() (aten.equal)" in told.notes[-1]


def test_a_file_that_does_not_agree_counts_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch_rungs.captured

    def captured(capture: Any, rung: Rung) -> Any:
        made = real(capture, rung)
        if rung is Rung.NON_STRICT:
            next(node for node in made.model.graph.node if node.op_type == "Add").op_type = "Sub"
        return made

    monkeypatch.setattr(torch_onnx, "captured", captured)
    told = Told()
    done = made(Plain(), tmp_path / "m.onnx", told)
    assert done.parity.passed
    assert len(told.notes) == 1
    assert "Parity failed" in told.notes[0]


@pytest.mark.parametrize(
    ("module", "reason", "line"),
    [
        (Branches(), "data-dependent", "if doubled.sum() > 0:"),
        (Untranslated(), "no translation of aten._linalg_eigh", "return torch.linalg.eigvalsh(squares)"),
    ],
)
def test_the_line_that_is_in_the_way_is_named(
    module: nn.Module, reason: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = Told()
    with pytest.raises(NotExportable) as caught:
        made(module, tmp_path / "m.onnx", told)
    assert reason in caught.value.what
    assert caught.value.what.endswith(f"in test_ladder.py, line {line_of(line)}.")
    assert [note.partition(":")[0] for note in told.notes] == [rung.value for rung in WAYS]
    assert all("\n" not in note for note in told.notes)
    assert not list(tmp_path.iterdir())


class Inner(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        scaled = x * 3
        return torch.floor(scaled) + 1


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner(x) * 2


@pytest.mark.parametrize(
    ("operator", "line", "said"),
    [("Ceil", "return torch.floor(scaled) + 1", "the first to differ is aten.floor.default of 'inner' (Inner)")],
)
def test_an_exporters_wrong_translation_is_named(
    operator: str, line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each way; the older exporter has a table of its own, and is kept from working."""
    real = torch_rungs.captured

    def captured(capture: Any, rung: Rung) -> Any:
        if rung is Rung.OLDER:
            raise NotExportable("It was kept from working.", "Wait.")
        done = real(capture, rung)
        next(node for node in done.model.graph.node if node.op_type == "Floor").op_type = operator
        return done

    monkeypatch.setattr(torch_onnx, "captured", captured)
    told = Told()
    with pytest.raises(CheckFailed) as caught:
        made(Outer(), tmp_path / "m.onnx", told)
    assert f"{said}, in test_ladder.py, line {line_of(line)}." in caught.value.what
    assert not list(tmp_path.iterdir())


def test_an_opset_that_the_older_exporter_does_not_write_is_said_before_anything_runs() -> None:
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            raise AssertionError("it ran")

    flat = torch_module.Flat(Never(), {"x": Input("x")})
    capture = torch_rungs.Capture(
        flat=flat, inputs={"x": torch.zeros(2, 4)}, axes={"x": {0: "batch"}}, output_names=("y",), opset=26
    )
    with pytest.raises(NotExportable, match="no opset above 20"):
        torch_rungs.captured(capture, Rung.OLDER)


class Roots(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.sqrt(x)


class Places(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x.argmax(1) + 1


def without_nan(model: onnx.ModelProto) -> None:
    """The same numbers, and a 0 where there is none."""
    graph = model.graph
    first = graph.node[0]
    graph.node.insert(0, onnx.helper.make_node("Relu", [first.input[0]], ["positive"]))
    graph.node[1].input[0] = "positive"


def one_less(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Add").op_type = "Sub"


@pytest.mark.parametrize(
    ("module", "spoil", "said"),
    [(Roots(), without_nan, "aten.sqrt.default"), (Places(), one_less, "aten.add.Tensor")],
)
def test_nan_elsewhere_and_a_whole_number_off_are_no_rounding(
    module: nn.Module,
    spoil: Callable[[onnx.ModelProto], None],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = torch_rungs.captured

    def captured(capture: Any, rung: Rung) -> Any:
        if rung is not Rung.NON_STRICT:
            raise NotExportable("It was kept from working.", "Wait.")
        done = real(capture, rung)
        spoil(done.model)
        return done

    monkeypatch.setattr(torch_onnx, "captured", captured)
    values = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    example = examples.of_arrays({"x": values}, "the test")
    with pytest.raises(CheckFailed, match="Parity failed") as caught:
        exporting._proven(module, tmp_path / "m.onnx", example, output_names=(), target=Target(), facts={})
    assert f"the first to differ is {said}" in caught.value.what
    assert "in test_ladder.py, line" in caught.value.what
