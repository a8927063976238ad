"""Every precision of a model whose weights lie beside it, as above 2 GB: the road through two files, on a small model.

The limits are lowered in the process, so the commands run here and not in one of their own.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import external_data, large_weights, onnx_file
from exporters.model_file import ModelFile
from tests.contract.comparing import outputs_of
from toolchain import cli

WIDTH = 192


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ``model.onnx`` in two files, ``whole.onnx`` in one, and ``calib.npz``."""
    monkeypatch.chdir(tmp_path)
    made = np.random.default_rng(0)
    weights = [made.standard_normal((WIDTH, WIDTH), np.float32) / np.float32(WIDTH**0.5) for _ in range(3)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", "a2"))
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a0"], name="mm0"),
        helper.make_node("Relu", ["a0"], ["t0"], name="relu"),
        helper.make_node("MatMul", ["t0", "w1"], ["a1"], name="mm1"),
        helper.make_node("Tanh", ["a1"], ["t1"], name="tanh"),
        helper.make_node("Transpose", ["w2"], ["w2t"], name="turn", perm=[1, 0]),  # folded into a new weight
        helper.make_node("MatMul", ["t1", "w2t"], ["a2"], name="mm2"),
    ]
    initializers = [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(weights)]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, "whole.onnx")
    np.savez("calib.npz", x=made.standard_normal((32, WIDTH)).astype(np.float32))
    monkeypatch.setattr(external_data, "MAX_BYTES", 20_000)
    monkeypatch.setattr(large_weights, "LARGE_BYTES", 20_000)
    monkeypatch.setattr(large_weights, "MIN_BYTES", 4_096)
    onnx_file.save(model, tmp_path / "model.onnx")
    return tmp_path


def nnx(*arguments: str) -> int:
    try:
        cli.main(list(arguments))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


COMMANDS = {
    "int8-dynamic": ("quantize", "--int8", "--mode", "dynamic", "--no-time"),
    "int8-static": ("quantize", "--int8", "--calibration", "calib.npz", "--no-cache", "--no-time"),
    "int4": ("quantize", "--int4", "--block-size", "16", "--no-time"),
    "fp16": ("convert", "--fp16"),
    "bf16": ("convert", "--bf16"),
}


@pytest.mark.parametrize("precision", COMMANDS)
def test_a_conversion_is_that_of_the_same_model_in_one_file(
    precision: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = COMMANDS[precision]
    assert nnx(command, "model.onnx", *options, "-o", "made.onnx") == 0, capsys.readouterr().err
    made = ModelFile(place / "made.onnx")
    assert made.precision == precision
    assert made.external_files == (place / "made.onnx.data",)
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert nnx(command, "whole.onnx", *options, "-o", "one.onnx") == 0
    assert ModelFile(place / "one.onnx").external_files == ()
    feeds = {"x": np.load("calib.npz")["x"]}
    assert np.array_equal(outputs_of(place / "made.onnx", feeds)["a2"], outputs_of(place / "one.onnx", feeds)["a2"])
    left = {"model.onnx", "model.onnx.data", "made.onnx", "made.onnx.data", "whole.onnx", "one.onnx", "calib.npz"}
    assert {path.name for path in place.iterdir()} == left


def test_it_is_explained_and_compared_with_what_it_became(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nnx("convert", "model.onnx", "--fp16", "-o", "made.onnx") == 0
    capsys.readouterr()
    assert nnx("explain", "model.onnx", "--json") == 0
    assert {layer["name"] for layer in json.loads(capsys.readouterr().out)["layers"]} >= {"mm0", "mm1", "mm2"}
    assert nnx("explain", "made.onnx", "--reference", "model.onnx", "--samples", "calib.npz", "--json") == 0
    layers = {layer["name"]: layer for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert layers["mm1"]["own_sqnr_db"] > 40
    assert layers["mm1"]["weight_bytes"] == WIDTH * WIDTH * 2


def test_a_command_for_weights_of_others_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "model.onnx").rename(place / "other.onnx")
    before = (place / "model.onnx.data").read_bytes()
    assert nnx("convert", "other.onnx", "--fp16", "-o", "model.onnx") == 2
    assert "model.onnx.data is what is to be read." in capsys.readouterr().err
    assert (place / "model.onnx.data").read_bytes() == before
    assert not (place / "model.onnx").exists()


def test_a_result_made_anew_takes_the_other_name_and_leaves_one_pair(place: Path) -> None:
    for _ in range(2):
        assert nnx("convert", "model.onnx", "--bf16", "-o", "made.onnx") == 0
    path = place / "made.onnx"
    assert ModelFile(path).external_files == (external_data.data_names(path)[1],)
    assert not external_data.data_path(path).exists()


def test_the_weights_files_of_all_rows_count_in_a_bench(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nnx("bench", "model.onnx", "whole.onnx", "--batch", "1", "--max-time", "1s", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["candidate"]["size_bytes"] > 3 * WIDTH * WIDTH * 4 for row in rows] == [True, True]


MODULE = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 192))
"""


def test_a_module_is_exported_into_two_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "module.py").write_text(MODULE)
    for _ in range(2):
        ended = nnx("export", "module.py:make", "--input", "input=float32[batch,192]", "-o", "made.onnx")
        assert ended == 0, capsys.readouterr().err
    made = ModelFile(place / "made.onnx")
    assert made.external_files == (external_data.data_names(place / "made.onnx")[1],)
    assert f"{made.size_bytes / 1e6:.3f} MB" in capsys.readouterr().out
    left = {path.name for path in place.iterdir() if path.is_file()}
    assert left == {
        "model.onnx",
        "model.onnx.data",
        "whole.onnx",
        "calib.npz",
        "module.py",
        "made.onnx",
        "made.onnx.2.data",
    }
