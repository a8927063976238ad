"""No command takes the place of what it reads, waits for a pipe, or goes on for ever."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.end_to_end import small_model
from tests.end_to_end.command import run_nnx

QUANTIZE = ("quantize", "model.onnx", "--int8", "--calibration", "calib.npz", "--no-time", "--no-cache")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    small_model.write(tmp_path / "model.onnx")
    small_model.write_samples(tmp_path / "calib.npz")
    (tmp_path / "hard.npz").hardlink_to(tmp_path / "calib.npz")
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize("output", ["model.onnx", "calib.npz", "hard.npz", "link.onnx", "./model.onnx"])
def test_an_output_is_no_input_by_whatever_name(place: Path, output: str) -> None:
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    ended = run_nnx(*QUANTIZE, "-o", output, cwd=place)
    assert ended.returncode == 2
    assert f"{Path(output)} is what is to be read." in ended.stderr
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


def test_the_weights_beside_a_model_are_no_output(place: Path) -> None:
    model = onnx.load(place / "model.onnx")
    onnx.save(model, place / "apart.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = (place / "weights.bin").read_bytes()
    ended = run_nnx("quantize", "apart.onnx", "--int8", "-o", "weights.bin", cwd=place)
    assert ended.returncode == 2
    assert "weights.bin is what is to be read." in ended.stderr
    assert (place / "weights.bin").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quantize", "pipe", "--int8"], "'pipe' is a pipe, not a file"),
        (["quantize", "/dev/zero", "--int8"], "'/dev/zero' is a device, not a file"),
        ([*QUANTIZE, "-o", "pipe"], "'pipe' is a pipe, not a file"),
        (["quantize", "x" * 1_000, "--int8"], "File name too long"),
        (["compare", "pipe", "pipe"], "'pipe' is a pipe, not a file"),
    ],
)
def test_what_is_no_file_is_refused_at_once(place: Path, arguments: list[str], said: str) -> None:
    ended = run_nnx(*arguments, cwd=place)
    assert ended.returncode == 2
    assert said in ended.stderr


@pytest.mark.slow
def test_a_model_that_never_ends_is_ended(place: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Or", ["go", "go"], ["on"]), helper.make_node("Identity", ["s"], ["t"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, ["n", 16]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, ["n", 16]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Loop", ["", "true", "m"], ["y"], body=body),
        ],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(np.eye(16, dtype=np.float32), "w"), numpy_helper.from_array(np.array(True), "true")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), place / "endless.onnx"
    )
    temporary = place / "tmp"
    temporary.mkdir()
    before = sorted(place.iterdir())
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "toolchain", "explain", "endless.onnx", "--timeout", "10s"],
        cwd=place, env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    assert "longer than the 10 s of --timeout" in ended.stderr
    assert time.monotonic() - start < 60
    assert list(temporary.iterdir()) == []
    assert sorted(place.iterdir()) == before
