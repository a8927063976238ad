"""Half precision as hardware has it, on a CPU provider that computes it in fp32."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.half.emulation import emulated

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
LEVELS = [onnxruntime.GraphOptimizationLevel(level) for level in (0, 1, 2, 99)]


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, Any],
    opset: int = 17,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def tensor(name: str, kind: int = HALF, shape: tuple[Any, ...] = ("n", 8)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def run(
    model: onnx.ModelProto,
    feed: dict[str, Any],
    level: onnxruntime.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    return list(
        onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, feed)
    )


@pytest.mark.parametrize("level", LEVELS)
def test_a_square_beyond_65504_is_infinite_at_every_level_of_the_optimizer(
    level: onnxruntime.GraphOptimizationLevel,
) -> None:
    """A norm in parts, which the optimizer fuses where it sees it: its squares overflow, so the right result is 0."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[-1]), helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("Pow", ["d", "two"], ["p"]), helper.make_node("ReduceMean", ["p"], ["v"], axes=[-1]),
        helper.make_node("Add", ["v", "eps"], ["ve"]), helper.make_node("Sqrt", ["ve"], ["sd"]),
        helper.make_node("Div", ["d", "sd"], ["n"]), helper.make_node("Mul", ["n", "g"], ["s"]),
        helper.make_node("Add", ["s", "b"], ["y"]),
    ]  # fmt: skip
    half = np.float16
    constants = {"two": half(2), "eps": half(1e-5), "g": np.ones(8, half), "b": np.zeros(8, half)}
    model = model_of(nodes, [tensor("x")], [tensor("y")], constants)
    x = (np.random.default_rng(0).normal(size=(2, 8)) * 400).astype(half)
    assert np.abs(run(model, {"x": x})[0]).max() > 1  # what the CPU provider says
    made = emulated(model)
    onnx.checker.check_model(made, full_check=True)
    assert np.array_equal(run(made, {"x": x}, level)[0], np.zeros((2, 8), half))


@pytest.mark.parametrize("operator", ["Mul", "Add", "Sub", "Div"])
def test_each_result_is_rounded_as_numpy_rounds_it(operator: str) -> None:
    rng = np.random.default_rng(1)
    x, w = ((rng.normal(size=8) * 10.0 ** rng.integers(-5, 4, 8)).astype(np.float16) for _ in range(2))
    model = model_of(
        [helper.make_node(operator, ["x", "w"], ["a"]), helper.make_node(operator, ["a", "w"], ["y"])],
        [tensor("x", shape=(8,))], [tensor("y", shape=(8,))], {"w": w},
    )  # fmt: skip
    function = {"Mul": np.multiply, "Add": np.add, "Sub": np.subtract, "Div": np.divide}[operator]
    with np.errstate(all="ignore"):
        right = function(function(x, w), w)
    (got,) = run(emulated(model), {"x": x})
    assert got.dtype == np.float16
    assert np.array_equal(got, right)


def test_a_row_masked_with_what_half_precision_takes_for_minus_infinity_is_nan() -> None:
    nodes = [
        helper.make_node("Cast", ["mask"], ["h"], to=HALF), helper.make_node("Add", ["x", "h"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]  # fmt: skip
    model = model_of(nodes, [tensor("x"), tensor("mask", FLOAT)], [tensor("y")], {})
    feed = {"x": np.ones((1, 8), np.float16), "mask": np.full((1, 8), np.finfo(np.float32).min, np.float32)}
    assert np.isnan(run(emulated(model), feed)[0]).all()


def test_graphs_inside_nodes_round_too_and_read_outer_tensors() -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        nodes = [helper.make_node(operator, ["a", "big"], ["t"]), helper.make_node("Div", ["t", "big"], ["r"])]
        return helper.make_graph(nodes, name, [], [tensor("r")])

    nodes = [
        helper.make_node("Mul", ["x", "big"], ["a"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("t", "Mul"), else_branch=branch("e", "Add")),
    ]
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    model = model_of(nodes, [tensor("x"), flag], [tensor("y")], {"big": np.float16(300)})
    made = emulated(model)
    onnx.checker.check_model(made, full_check=True)
    x = np.ones((1, 8), np.float16)
    assert np.isinf(run(made, {"x": x, "flag": np.array(True)})[0]).all()  # 300 * 300
    assert np.array_equal(run(made, {"x": x, "flag": np.array(False)})[0], x * 2)


def test_operators_of_onnx_runtime_and_sequences_are_followed() -> None:
    nodes = [
        helper.make_node("BiasGelu", ["x", "b"], ["g"], domain="com.microsoft"),
        helper.make_node("Mul", ["g", "g"], ["p"]), helper.make_node("Sqrt", ["p"], ["y"]),
        helper.make_node("SplitToSequence", ["p"], ["parts"], axis=1),
        helper.make_node("SequenceAt", ["parts", "zero"], ["first"]), helper.make_node("Sqrt", ["first"], ["z"]),
    ]  # fmt: skip
    model = model_of(
        nodes, [tensor("x")], [tensor("y"), tensor("z", shape=("n", 1))],
        {"b": np.zeros(8, np.float16), "zero": np.array(0)},
    )  # fmt: skip
    x = np.full((1, 8), 300, np.float16)
    y, z = run(emulated(model), {"x": x})
    assert np.isinf(y).all() and np.isinf(z).all()


def test_the_interface_and_the_weights_stay() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = model_of(nodes, [tensor("x")], [tensor("y")], {"w": np.eye(8, dtype=np.float16)})
    made = emulated(model)
    assert made.graph.initializer == model.graph.initializer
    assert (made.graph.input, made.graph.output) == (model.graph.input, model.graph.output)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]  # the model given stays as it is


def test_a_model_of_fp32_stays_as_it_is() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = model_of(nodes, [tensor("x", FLOAT)], [tensor("y", FLOAT)], {"w": np.eye(8, dtype=np.float32)})
    assert emulated(model) == model
