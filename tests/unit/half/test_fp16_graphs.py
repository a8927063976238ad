"""fp16 files that are right where half precision is computed in half precision."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import BadModelFile, NotApplicable
from exporters.half import bf16, fp16
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


def test_sequences_stay_in_fp32(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("SplitToSequence", ["a", "four"], ["s"], axis=1),
        helper.make_node("SequenceAt", ["s", "zero"], ["first"]),
        helper.make_node("MatMul", ["first", "v"], ["y"]),
    ]  # fmt: skip
    constants = {
        "w": np.eye(8, dtype=np.float32), "v": np.ones((4, 8), np.float32), "four": np.int64(4), "zero": np.int64(0)
    }  # fmt: skip
    outputs = [tensor("y", FLOAT), helper.make_tensor_sequence_value_info("s", FLOAT, None)]
    model = model_of(nodes, [tensor("x", FLOAT)], outputs, constants)
    made = converted(model, tmp_path)
    onnx.checker.check_model(made, full_check=True)
    assert made.graph.output[1].type.sequence_type.elem_type.tensor_type.elem_type == FLOAT
    assert {tensor.data_type for tensor in made.graph.initializer if tensor.name in "wv"} == {TensorProto.FLOAT16}
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    (y, parts), (right, right_parts) = run(emulated(made), {"x": x}), run(model, {"x": x})
    assert np.array_equal(y, right)
    assert all(np.array_equal(part, other) for part, other in zip(parts, right_parts, strict=True))


def test_fp16_weights_behind_casts_are_no_fp16_model(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["h"], ["w"], to=FLOAT), helper.make_node("MatMul", ["x", "w"], ["y"])
    ]  # fmt: skip
    stored = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float16)
    model = model_of(nodes, [tensor("x", FLOAT)], [tensor("y", FLOAT)], {"h": stored})
    made = converted(model, tmp_path)
    assert [node.op_type for node in made.graph.node].count("MatMul") == 1
    assert np.array_equal(numpy_helper.to_array(made.graph.initializer[0]), stored)
    assert bf16.convert(ModelFile(tmp_path / "m.onnx"), tmp_path / "b.onnx").precision == "bf16"
    for convert in (fp16.convert, bf16.convert):
        with pytest.raises(BadModelFile, match="fp16 already"):
            convert(ModelFile(tmp_path / "h.onnx"), tmp_path / "again.onnx")


def test_a_table_in_fp16_that_is_cast_once_it_is_read_is_no_fp16_model(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]), helper.make_node("Cast", ["e"], ["f"], to=FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]  # fmt: skip
    constants = {"table": np.eye(8, dtype=np.float16), "w": np.eye(8, dtype=np.float32)}
    made = converted(
        model_of(nodes, [tensor("ids", TensorProto.INT64, ("n",))], [tensor("y", FLOAT)], constants), tmp_path
    )
    assert {each.data_type for each in made.graph.initializer} == {TensorProto.FLOAT16}
    assert np.array_equal(run(made, {"ids": np.arange(8)})[0], np.eye(8))


def test_weights_in_branches_are_stored_in_half_precision_and_what_does_not_fit_is_not(tmp_path: Path) -> None:
    def branch(name: str, scale: float) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.eye(8, dtype=np.float32) * np.float32(scale), "wb")
        return helper.make_graph(
            [helper.make_node("MatMul", ["a", "wb"], ["b"])], name, [], [tensor("b", FLOAT)], [weight]
        )

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("then", 2), else_branch=branch("else", 1e6)),
    ]  # fmt: skip
    inputs = [tensor("x", FLOAT), tensor("flag", TensorProto.BOOL, ())]
    model = model_of(nodes, inputs, [tensor("y", FLOAT)], {"w": np.eye(8, dtype=np.float32)})
    made = converted(model, tmp_path)
    onnx.checker.check_model(made, full_check=True)
    node = next(node for node in made.graph.node if node.op_type == "If")
    types = {item.name: [tensor.data_type for tensor in item.g.initializer] for item in node.attribute}
    assert types == {"then_branch": [TensorProto.FLOAT16], "else_branch": [FLOAT]}
    for flag in (True, False):
        feed = {"x": np.ones((1, 8), np.float32), "flag": np.array(flag)}
        assert np.array_equal(run(emulated(made), feed)[0], run(model, feed)[0])


def test_why_no_weight_becomes_half_precision_is_told_as_it_is(tmp_path: Path) -> None:
    def refused(operator: str, weight: float) -> str:
        nodes = [helper.make_node(operator, ["x", "w"], ["y"])]
        constants = {"w": np.full((8, 8), weight, np.float32)}
        with pytest.raises(NotApplicable) as caught:
            converted(model_of(nodes, [tensor("x", FLOAT)], [tensor("y", FLOAT)], constants), tmp_path)
        return caught.value.what

    assert refused("MatMul", 1e6).endswith("fp16: its numbers do not fit half precision.")
    assert refused("Max", 1).endswith("fp16: it is read in fp32 (by Max).")


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_what_no_runtime_computes_in_half_precision_stays(reduction: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("MeanVarianceNormalization", ["a"], ["m"], axes=[1]),
        helper.make_node("ScatterElements", ["m", "i", "u"], ["s"], axis=1, reduction=reduction),
        helper.make_node("Binarizer", ["s"], ["y"], domain="ai.onnx.ml", threshold=0.50001),
    ]  # fmt: skip
    constants = {
        "w": np.ones(8, np.float32), "i": np.zeros((2, 1), np.int64), "u": np.full((2, 1), 0.50002, np.float32)
    }  # fmt: skip
    model = model_of(nodes, [tensor("x", FLOAT, (2, 8))], [tensor("y", FLOAT, (2, 8))], constants)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    made = converted(model, tmp_path)
    feed = {"x": np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)}
    right = run(model, feed)[0]
    assert run(made, feed)[0].shape == right.shape
    assert np.abs(run(emulated(made), feed)[0] - right).mean() < 0.2
