"""What onnxruntime opens on x86-64 and not on arm64 is not made."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporters.half import fp16
from exporters.model_file import ModelFile
from tests import emulated_arm64


def pooled(path: Path, opset: int, kind: type[np.generic] = np.float32) -> ModelFile:
    """A convolution, and the mean of what is around each pixel."""
    weight = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(kind)
    value = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("AveragePool", ["c"], ["y"], name="mean", kernel_shape=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes, "pooled", [helper.make_tensor_value_info("x", value, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", value, ["batch", 8, 5, 5])], [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return ModelFile(path)


def opened_there(path: Path) -> "subprocess.CompletedProcess[str]":
    program = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"
    command = [emulated_arm64.python(), "-c", program, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("opset", "kept"), [(18, ""), (19, "mean"), (22, "mean")])
def test_means_of_a_newer_opset_stay_in_fp32(opset: int, kept: str, tmp_path: Path) -> None:
    fp16.convert(pooled(tmp_path / "m.onnx", opset), tmp_path / "h.onnx")
    assert ModelFile(tmp_path / "h.onnx").facts.get("fp32_nodes", "") == kept


@pytest.mark.parametrize("opset", [18, 20])
def test_what_is_made_opens_there(opset: int, tmp_path: Path) -> None:
    emulated_arm64.python()
    fp16.convert(pooled(tmp_path / "m.onnx", opset), tmp_path / "h.onnx")
    ended = opened_there(tmp_path / "h.onnx")
    assert ended.returncode == 0, ended.stderr


def test_onnx_runtime_still_has_no_kernel_for_it(tmp_path: Path) -> None:
    """Where this fails, the exception may go."""
    emulated_arm64.python()
    pooled(tmp_path / "h.onnx", 20, np.float16)
    ended = opened_there(tmp_path / "h.onnx")
    assert ended.returncode != 0
    assert "AveragePool" in ended.stderr
