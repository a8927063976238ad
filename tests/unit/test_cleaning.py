"""The form in which models are converted, and what nobody reads."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import cleaning

X = np.array([[1, -2, 3, 4]], np.float32)
W = np.eye(4, dtype=np.float32) * 2
FLOAT = TensorProto.FLOAT


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], ir_version: int = 10) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, FLOAT, ["n", 4]) for name in "xy")
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=ir_version)


def run(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": X})[0]
    return found


def constant(name: str, **attribute: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], **attribute)


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (constant("c", value=numpy_helper.from_array(np.array([5], np.float32), "v")), [5]),
        (constant("c", value_float=5.0), 5),
        (constant("c", value_floats=[1.0, 2.0, 3.0, 4.0]), [1, 2, 3, 4]),
    ],
)
def test_constant_nodes_become_weights(node: onnx.NodeProto, value: object) -> None:
    model = model_of([node, helper.make_node("Add", ["x", "c"], ["y"])], {})
    made = cleaning.normalized(model)
    assert [each.op_type for each in made.graph.node] == ["Add"]
    assert np.array_equal(numpy_helper.to_array(made.graph.initializer[0]), np.array(value, np.float32))
    assert np.array_equal(run(made), run(model))
    assert len(model.graph.node) == 2  # the model given stays as it is


def test_nodes_get_names_of_their_own_and_given_ones_stay() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["b"], "Relu"),
        helper.make_node("Relu", ["b"], ["c"], "mine"), helper.make_node("Relu", ["c"], ["y"], "mine"),
    ]  # fmt: skip
    names = [node.name for node in cleaning.named(model_of(nodes, {})).graph.node]
    assert len(set(names)) == 4
    assert "mine" in names
    assert all(name.startswith(("Relu", "mine")) for name in names)


def test_weights_that_old_files_list_as_inputs_are_weights_alone() -> None:
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": W}, ir_version=3)
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [4, 4]))
    made = cleaning.normalized(model)
    assert [value.name for value in made.graph.input] == ["x"]
    assert made.ir_version >= 4
    assert np.array_equal(run(made), X @ W)


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_weights_become_dense(flat: bool) -> None:
    indices = np.array([0, 5, 10, 15]) if flat else np.array([[0, 0], [1, 1], [2, 2], [3, 3]])
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.full(4, 2, np.float32), "w"), numpy_helper.from_array(indices, "i"), [4, 4]
    )
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {})
    model.graph.sparse_initializer.append(sparse)
    made = cleaning.normalized(model)
    assert not made.graph.sparse_initializer
    assert np.array_equal(run(made), X @ W)
    assert len(model.graph.sparse_initializer) == 1


def test_what_no_output_depends_on_goes_in_nested_graphs_too() -> None:
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["inner"]), helper.make_node("MatMul", ["x", "v"], ["unread"])],
        "then", [], [helper.make_tensor_value_info("inner", FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("MatMul", ["x", "u"], ["dead"]),
        helper.make_node("Relu", ["dead"], ["deader"]),
    ]
    model = model_of(nodes, {"w": W, "v": W, "u": W, "yes": np.array(True)})
    made = cleaning.without_dead_parts(model)
    assert [node.op_type for node in made.graph.node] == ["If"]
    assert {tensor.name for tensor in made.graph.initializer} == {"w", "yes"}
    assert [value.name for value in made.graph.input] == ["x"]
    assert np.array_equal(run(made), X @ W)


def test_claims_about_weights_are_dropped_and_those_about_activations_stay() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    model = model_of(nodes, {"w": W})
    model.graph.value_info.extend(
        [helper.make_tensor_value_info("w", FLOAT, [4, 4]), helper.make_tensor_value_info("h", FLOAT, ["n", 4])]
    )
    assert [value.name for value in cleaning.normalized(model).graph.value_info] == ["h"]
