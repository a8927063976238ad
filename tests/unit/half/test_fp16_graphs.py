"""fp16 files that are right where half precision is computed in half precision."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters.half import fp16
from exporters.half.emulation import emulated
from exporters.model_file import ModelFile
from tests.unit.half.test_emulation import FLOAT, model_of, run, tensor


def converted(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(model, folder / "m.onnx")
    fp16.convert(ModelFile(folder / "m.onnx"), folder / "h.onnx")
    return onnx.load(folder / "h.onnx")


def test_a_mask_of_the_least_fp32_stays_in_fp32_up_to_the_softmax(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Where", ["mask", "least", "zero"], ["m"]),
        helper.make_node("Add", ["s", "m"], ["a"]), helper.make_node("Softmax", ["a"], ["y"], axis=-1),
    ]  # fmt: skip
    constants = {"w": np.eye(8, dtype=np.float32), "least": np.finfo(np.float32).min, "zero": np.float32(0)}
    model = model_of(nodes, [tensor("x", FLOAT), tensor("mask", TensorProto.BOOL)], [tensor("y", FLOAT)], constants)
    feed = {"x": np.ones((1, 8), np.float32), "mask": np.ones((1, 8), bool)}
    assert np.allclose(run(emulated(converted(model, tmp_path)), feed)[0], run(model, feed)[0], atol=1e-3)


def test_types_that_onnx_does_not_infer_are_told(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GroupNormalization", ["x", "one", "nil"], ["g"], num_groups=2),
        helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["g", "r"], ["y"]),
    ]  # fmt: skip
    constants = {"one": np.ones(8, np.float32), "nil": np.zeros(8, np.float32)}
    shape = ("n", 8, 4)
    model = model_of(nodes, [tensor("x", FLOAT, shape)], [tensor("y", FLOAT, shape)], constants, opset=21)
    model.ir_version = 10
    made = converted(model, tmp_path)
    onnx.checker.check_model(made, full_check=True)
    x = np.random.default_rng(0).normal(size=(2, 8, 4)).astype(np.float32)
    assert np.allclose(run(emulated(made), {"x": x})[0], run(model, {"x": x})[0], atol=2e-2)
