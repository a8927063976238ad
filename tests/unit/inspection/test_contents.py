"""Which constants are parameters, and how many numbers each stands for."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.model_file import ModelFile
from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.tiny_graphs import drawn
from toolchain.inspection.check import check
from toolchain.inspection.contents import parameters
from toolchain.inspection.describe import describe
from toolchain.inspection.diff import diff
from toolchain.progress import SILENT

Weights = dict[str, tiny_graphs.Array]


def of(*nodes: onnx.NodeProto, weights: Weights) -> dict[str, int]:
    made = tiny_graphs.model(nodes, {"x": [2, 4]}, {"y": None}, weights, domains=["com.microsoft"])
    return parameters(made)


def test_biases_of_whole_numbers_are_parameters() -> None:
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    shared: Weights = {"s": scale, "z": zero, "bias": np.ones(3, np.int32)}
    conv = helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z", "bias"], ["y"])
    assert of(conv, weights={**shared, "w": np.ones((3, 2, 1, 1), np.int8)}) == {"w": 6, "bias": 3}
    gemm = helper.make_node("QGemm", ["x", "s", "z", "w", "s", "z", "bias", "s", "z"], ["y"], domain="com.microsoft")
    assert of(gemm, weights={**shared, "w": np.ones((4, 3), np.int8)}) == {"w": 12, "bias": 3}


def test_a_bias_of_one_value_is_a_parameter_and_a_scalar_is_none() -> None:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["g"]), helper.make_node("Mul", ["g", "half"], ["y"])]
    found = of(*nodes, weights={"w": drawn(4, 1), "b": drawn(1), "half": np.array([0.5], np.float32)})
    assert found == {"w": 4, "b": 1}


def test_scales_of_dynamic_products_are_no_parameters() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w8", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "by channel"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["p"]),
        helper.make_node("Mul", ["p", "gamma"], ["y"]),
    ]
    weights: Weights = {"w8": np.ones((4, 3), np.int8), "by channel": np.ones(3, np.float32)}
    assert of(*nodes[:-1], weights=weights) == {"w8": 12}


def test_two_of_four_bits_lie_in_a_byte() -> None:
    node = helper.make_node(
        "GatherBlockQuantized", ["table", "x", "s"], ["y"], domain="com.microsoft", bits=4, block_size=16
    )
    assert of(node, weights={"table": np.ones((10, 16), np.uint8), "s": np.ones((10, 2), np.float32)}) == {"table": 320}


def test_weights_of_one_name_in_two_branches_both_count() -> None:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])
        product = helper.make_node("MatMul", ["x", "w"], [name])
        return helper.make_graph([product], name, [], [out], [numpy_helper.from_array(drawn(4, 3), "w")])

    node = helper.make_node("If", ["which"], ["y"], then_branch=branch("t"), else_branch=branch("e"))
    assert sum(of(node, weights={"which": np.array(True)}).values()) == 2 * 12


def test_a_model_in_double_says_so(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights: Weights = {"w": drawn(4, 3).astype(np.float64)}
    onnx.save(tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 3]}, weights, kind=TensorProto.DOUBLE), tmp_path / "m")
    assert describe(ModelFile(tmp_path / "m"), {}, ask=False).precision == "fp64"


@pytest.mark.parametrize("operator", ["Cast", "DequantizeLinear", "QuantizeLinear", "Constant", "Transpose"])
def test_a_node_without_inputs_is_described_and_is_a_fault(operator: str, tmp_path: Path) -> None:
    node = helper.make_node(operator, [], ["y"])
    onnx.save(tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 4]}, {}), tmp_path / "m.onnx")
    assert describe(ModelFile(tmp_path / "m.onnx"), {}, ask=False).parameters == 0
    assert not check(tmp_path / "m.onnx").sound
    assert diff(ModelFile(tmp_path / "m.onnx"), ModelFile(tmp_path / "m.onnx"), run=False, progress=SILENT).alike
