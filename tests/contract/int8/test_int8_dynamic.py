"""Faults of the dynamic quantizer that must not reach a user."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file
from exporters.errors import BadModelFile, NotApplicable
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8.targets import TARGETS
from exporters.model_file import ModelFile
from tests.contract.comparing import outputs_of
from toolchain.stats import sqnr_db

INT8 = TARGETS["x86-avx2"]  # whose 7 bits saturate on no CPU that runs the tests
SIZE = 16
RANDOM = np.random.default_rng(0)
SAMPLES = {"x": RANDOM.normal(size=(64, SIZE)).astype(np.float32)}
WEIGHT = RANDOM.normal(size=(SIZE, SIZE)).astype(np.float32)


def model_of(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], axes: tuple[int | str, ...] = ("n", SIZE)
) -> Path:
    graph = helper.make_graph(
        nodes,
        "given",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(axes))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx_file.check(model, step="test")
    onnx_file.save(model, path)
    return path


def gemm(given: str, weight: str, made: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Gemm", [given, weight], [made], name, transB=1)


def product(given: str, weight: str, made: str, name: str) -> onnx.NodeProto:
    return helper.make_node("MatMul", [given, weight], [made], name)


def quality_db(src: Path, made: Path, samples: dict[str, np.ndarray] = SAMPLES) -> float:
    return sqnr_db(outputs_of(src, samples)["y"], outputs_of(made, samples)["y"])


def float_weights(path: Path) -> list[str]:
    graph = ModelFile(path).proto.graph
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    return [name for name, array in arrays.items() if array.dtype == np.float32 and array.size >= SIZE * SIZE]


@pytest.mark.parametrize("second", [gemm, product])
def test_a_weight_that_a_transposing_gemm_shares_is_not_spoilt(second: type, tmp_path: Path) -> None:
    src = model_of(tmp_path / "m.onnx", [gemm("x", "w", "h", "a"), second("h", "w", "y", "b")], {"w": WEIGHT})
    made = int8_dynamic.convert(ModelFile(src), tmp_path / "d.onnx", int8=INT8)
    assert quality_db(src, made.path) > 30
    assert float_weights(made.path) == []


@pytest.mark.parametrize("kind", [gemm, product])
def test_an_excluded_node_keeps_its_float_weight_though_another_shares_it(kind: type, tmp_path: Path) -> None:
    src = model_of(tmp_path / "m.onnx", [kind("x", "w", "h", "a"), kind("h", "w", "y", "b")], {"w": WEIGHT})
    made = int8_dynamic.convert(ModelFile(src), tmp_path / "d.onnx", int8=INT8, exclude=["b"])
    assert len(float_weights(made.path)) == 1
    assert not any(node.op_type == "DequantizeLinear" for node in ModelFile(made.path).proto.graph.node)
    assert quality_db(src, made.path) > 30


@pytest.mark.parametrize("excluded", [["a"], ["b"]])
def test_a_name_is_followed_through_fusions(excluded: list[str], tmp_path: Path) -> None:
    """MatMul and Add become one Gemm before the quantizer sees them, and it splits that again."""
    nodes = [
        product("x", "w", "h", "a"),
        helper.make_node("Add", ["h", "bias"], ["i"], "add_a"),
        helper.make_node("Relu", ["i"], ["j"], "relu"),
        product("j", "v", "k", "b"),
        helper.make_node("Add", ["k", "bias"], ["y"], "add_b"),
    ]
    weights = {"w": WEIGHT, "v": WEIGHT.T.copy(), "bias": np.ones(SIZE, np.float32)}
    src = model_of(tmp_path / "m.onnx", nodes, weights)
    made = int8_dynamic.convert(ModelFile(src), tmp_path / "d.onnx", int8=INT8, exclude=excluded)
    assert float_weights(made.path) == [{"a": "w", "b": "v"}[excluded[0]]]


def test_a_node_without_a_name_can_be_excluded_by_the_one_it_gets(tmp_path: Path) -> None:
    src = model_of(tmp_path / "m.onnx", [product("x", "w", "h", ""), product("h", "w", "y", "")], {"w": WEIGHT})
    made = int8_dynamic.convert(ModelFile(src), tmp_path / "d.onnx", int8=INT8, exclude=["MatMul_1"])
    assert len(float_weights(made.path)) == 1


def recurrent(given: str, made: str, name: str) -> onnx.NodeProto:
    return helper.make_node("LSTM", [given, "w", "r"], [made], name, hidden_size=SIZE)


@pytest.mark.parametrize("per_channel", [True, False])
def test_recurrent_nets_are_quantized_and_may_share_weights(per_channel: bool, tmp_path: Path) -> None:
    squeeze = [helper.make_node("Squeeze", [f"h{index}", "axis"], [f"s{index}"], f"q{index}") for index in (0, 1)]
    nodes = [recurrent("x", "h0", "first"), squeeze[0], recurrent("s0", "h1", "second"), squeeze[1]]
    nodes[-1].output[0] = "y"
    weights = {name: RANDOM.normal(size=(1, 4 * SIZE, SIZE)).astype(np.float32) / 4 for name in ("w", "r")}
    src = model_of(tmp_path / "m.onnx", nodes, {**weights, "axis": np.array([1])}, axes=("tokens", "n", SIZE))
    int8 = TARGETS["x86-vnni" if per_channel else "web"]
    made = int8_dynamic.convert(ModelFile(src), tmp_path / "d.onnx", int8=int8)
    kinds = [node.op_type for node in ModelFile(made.path).proto.graph.node]
    assert kinds.count("DynamicQuantizeLSTM") == 2
    assert float_weights(made.path) == []
    assert quality_db(src, made.path, {"x": RANDOM.normal(size=(6, 5, SIZE)).astype(np.float32)}) > 20


def test_what_cannot_be_quantized_says_why_and_leaves_no_file(tmp_path: Path) -> None:
    relu = model_of(tmp_path / "r.onnx", [helper.make_node("Relu", ["x"], ["y"], "relu")], {})
    with pytest.raises(NotApplicable, match="MatMul"):
        int8_dynamic.convert(ModelFile(relu), tmp_path / "d.onnx", int8=INT8)
    src = model_of(tmp_path / "m.onnx", [product("x", "w", "y", "only")], {"w": WEIGHT})
    with pytest.raises(NotApplicable, match="Nothing"):
        int8_dynamic.convert(ModelFile(src), tmp_path / "d.onnx", int8=INT8, exclude=["only"])
    made = int8_dynamic.convert(ModelFile(src), tmp_path / "q.onnx", int8=INT8)
    with pytest.raises(BadModelFile, match="already"):
        int8_dynamic.convert(ModelFile(made.path), tmp_path / "d.onnx", int8=INT8)
    assert not (tmp_path / "d.onnx").exists()
