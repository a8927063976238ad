"""The form in which models are converted, and what nobody reads."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import cleaning, skeleton
from exporters.errors import BadModelFile, NotConvertible

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
    made = cleaning.normalized(model).model
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
    made = cleaning.normalized(model).model
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
    made = cleaning.normalized(model).model
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
    assert [value.name for value in cleaning.normalized(model).model.graph.value_info] == ["h"]


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize(
    "chain",
    [
        [helper.make_node("Identity", ["w"], ["v"])],
        [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("Transpose", ["t"], ["v"])],
        [helper.make_node("Reshape", ["w", "flat"], ["f"]), helper.make_node("Reshape", ["f", "square"], ["v"])],
        [helper.make_node("Unsqueeze", ["w", "zero"], ["u"]), helper.make_node("Squeeze", ["u", "zero"], ["v"])],
        [helper.make_node("Cast", ["half"], ["v"], to=FLOAT)],
        [helper.make_node("DequantizeLinear", ["q", "scale", "point"], ["v"], axis=0)],
    ],
)
def test_weights_behind_views_and_casts_are_weights(chain: list[onnx.NodeProto]) -> None:
    weight = np.arange(16, dtype=np.float32).reshape(4, 4)
    constants = {
        "w": weight, "flat": np.array([-1]), "square": np.array([4, 0 + 4]), "zero": np.array([0]),
        "half": weight.astype(np.float16), "q": (weight + 3).astype(np.int8), "scale": np.ones(4, np.float32),
        "point": np.full(4, 3, np.int8),
    }  # fmt: skip
    model = model_of([*chain, helper.make_node("MatMul", ["x", "v"], ["y"])], constants)
    made = cleaning.normalized(model).model
    assert [node.op_type for node in made.graph.node] == ["MatMul"]
    (found,) = weights_of(made).values()
    assert np.array_equal(found, weight)
    assert np.array_equal(run(made), run(model))


def test_a_weight_that_is_read_as_it_is_too_stays_one() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 2000)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["a", "t"], ["y"]),
    ]  # fmt: skip
    model = model_of(nodes, {"w": weight})
    made = cleaning.normalized(model).model
    assert list(weights_of(made)) == ["w"]
    assert np.array_equal(run(made), run(model))
    twice = model_of(
        [
            helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("Transpose", ["w"], ["u"]),
            helper.make_node("MatMul", ["x", "t"], ["a"]), helper.make_node("MatMul", ["x", "u"], ["b"]),
            helper.make_node("Sub", ["a", "b"], ["c"]), helper.make_node("ReduceSum", ["c"], ["d"], keepdims=1),
            helper.make_node("Add", ["x", "d"], ["y"]),
        ],
        {"w": weight.T.copy()},
    )  # fmt: skip
    made = cleaning.normalized(twice).model
    assert [array.shape for array in weights_of(made).values()] == [(4, 2000)]
    assert np.array_equal(run(made), X)


def test_functions_are_inlined_and_the_other_name_of_onnx_is_brought_to_the_one() -> None:
    body = [helper.make_node("MatMul", ["A", "B"], ["C"], domain="ai.onnx")]
    function = helper.make_function("own", "Product", ["A", "B"], ["C"], body, [helper.make_opsetid("ai.onnx", 20)])
    model = model_of([helper.make_node("Product", ["x", "w"], ["y"], domain="own")], {"w": W})
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.opset_import[0].domain = "ai.onnx"
    made = cleaning.normalized(model).model
    assert [(node.op_type, node.domain) for node in made.graph.node] == [("MatMul", "")]
    assert np.array_equal(run(made), X @ W)


def test_an_input_with_a_default_stays_one_and_is_no_weight() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Mul", ["h", "gain"], ["y"])]
    model = model_of(nodes, {"w": W, "gain": np.array(2, np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("gain", FLOAT, []))
    made = cleaning.normalized(model)
    assert cleaning.overridable(made.model) == {"gain"}
    assert [node.op_type for node in made.model.graph.node if "gain" in node.input] == ["Identity"]
    assert np.array_equal(run(made.model), X @ W * 2)
    before = made.model.SerializeToString()
    cleaning.guard(made.model)
    assert made.model.SerializeToString() == before
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [4, 4]))
    all_listed = cleaning.normalized(model)
    assert not cleaning.overridable(all_listed.model)
    assert "2 weights" in all_listed.notes[0]


def test_half_precision_is_widened_and_the_interface_stays() -> None:
    half = TensorProto.FLOAT16
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Cast", ["h"], ["f"], to=FLOAT),
        helper.make_node("Relu", ["f"], ["r"]), helper.make_node("Cast", ["r"], ["g"], to=half),
        helper.make_node("Add", ["g", "g"], ["y"]),
    ]  # fmt: skip
    model = model_of(nodes, {"w": W.astype(np.float16)})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = half
    made = cleaning.normalized(model)
    assert [node.op_type for node in made.model.graph.node] == ["Cast", "MatMul", "Relu", "Add", "Cast"]
    assert weights_of(made.model)["w"].dtype == np.float32
    assert "widened" in made.notes[0]
    onnx.checker.check_model(made.model, full_check=True)
    session = onnxruntime.InferenceSession(made.model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": X.astype(np.float16)})
    assert found.dtype == np.float16
    assert np.array_equal(found, np.maximum(X @ W, 0) * 2)


def test_what_onnx_runtime_runs_is_brought_in_order() -> None:
    nodes = [helper.make_node("Relu", ["h"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["h"])]  # not sorted
    model = model_of(nodes, {"w": np.zeros((4, 4), np.float32)})
    model.graph.initializer.append(numpy_helper.from_array(W, "w"))  # the last one counts
    model.graph.name = ""
    model.graph.output[0].ClearField("type")
    model.graph.value_info.append(helper.make_tensor_value_info("h", FLOAT, ["n", 77]))
    for value in "ab":
        model.metadata_props.add(key="twice", value=value)
    model.opset_import.append(helper.make_opsetid("ai.onnx", 20))
    assert np.array_equal(run(cleaning.normalized(model).model), np.maximum(X @ W, 0))


def test_a_cycle_is_no_model() -> None:
    nodes = [helper.make_node("Relu", ["y"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    with pytest.raises(BadModelFile, match="contradicts itself"):
        cleaning.normalized(model_of(nodes, {}))


@pytest.mark.parametrize("opset", [7, 9, 11, 12])
def test_old_operator_sets_are_raised(opset: int) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], "mine"), helper.make_node("Softmax", ["h"], ["y"], axis=1)]
    model = model_of(nodes, {"w": W}, ir_version=7)
    model.opset_import[0].version = opset
    made = cleaning.raised(cleaning.normalized(model).model, 13, "m")
    assert made.opset_import[0].version == 13
    assert made.graph.node[0].name == "mine"
    assert np.allclose(run(made), run(model))


@pytest.mark.parametrize("opset", [7, 9, 11, 12])
def test_large_weights_are_still_there_in_a_newer_operator_set(opset: int) -> None:
    """They are kept out of ONNX's converter, and were missing when what it made was checked."""
    large = np.random.default_rng(0).normal(size=(4, 4096)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "v"], ["h"]), helper.make_node("MatMul", ["h", "u"], ["y"])]
    model = model_of(nodes, {"v": large, "u": large.T.copy()}, ir_version=7)
    model.opset_import[0].version = opset
    made = cleaning.raised(cleaning.normalized(model).model, 13, "m")
    assert made.opset_import[0].version == 13
    assert np.allclose(run(made), run(model), rtol=1e-5)


def test_what_was_no_valid_onnx_before_is_raised_all_the_same() -> None:
    """ONNX Runtime runs a file that declares a wrong shape for a tensor inside."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    model = model_of(nodes, {"w": W}, ir_version=7)
    model.opset_import[0].version = 11
    model.graph.node[1].attribute.append(helper.make_attribute("unknown", 1))
    made = cleaning.raised(cleaning.normalized(model).model, 13, "m")
    assert made.opset_import[0].version == 13


def test_a_scan_whose_batch_newer_operator_sets_do_not_know_is_refused() -> None:
    state, row, total, out = (helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("s", "r", "t", "o"))
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "r"], ["t"]), helper.make_node("Identity", ["t"], ["o"])],
        "b",
        [state, row],
        [total, out],
    )
    infos = [helper.make_tensor_value_info(*of) for of in (("i", FLOAT, [1, 2]), ("x", FLOAT, [1, 3, 2]))]
    found = [helper.make_tensor_value_info(*of) for of in (("y", FLOAT, [1, 2]), ("z", FLOAT, [1, 3, 2]))]
    nodes = [
        helper.make_node("MatMul", ["i", "w"], ["h"]),
        helper.make_node("Scan", ["", "h", "x"], ["y", "z"], body=body, num_scan_inputs=1),
    ]
    graph = helper.make_graph(nodes, "g", infos, found, [numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(NotConvertible, match="opset 8"):
        cleaning.raised(cleaning.normalized(model).model, 13, "m")


def test_an_output_keeps_the_shape_that_inference_does_not_find() -> None:
    before = helper.make_graph([], "g", [], [helper.make_tensor_value_info("y", FLOAT, [1, 5])])
    after = helper.make_graph([], "g", [], [helper.make_tensor_value_info("y", FLOAT, None)])
    skeleton.take_shapes(before, after)
    assert [axis.dim_value for axis in before.output[0].type.tensor_type.shape.dim] == [1, 5]


@pytest.mark.parametrize("inside", [False, True])
def test_maps_which_the_passes_know_no_form_of_stay(inside: bool) -> None:
    nodes = [
        helper.make_node("Identity", ["w"], ["v"]), helper.make_node("MatMul", ["x", "v"], ["y"]),
        helper.make_node("ZipMap", ["y"], ["named"], domain="ai.onnx.ml", classlabels_strings=list("abcd")),
    ]  # fmt: skip
    model = model_of(nodes, {"w": W})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    named = (model.graph.value_info if inside else model.graph.output).add(name="named")
    kind = named.type.sequence_type.elem_type.map_type
    kind.key_type, kind.value_type.tensor_type.elem_type = TensorProto.STRING, FLOAT
    given = model.SerializeToString()
    made = cleaning.without_dead_parts(cleaning.normalized(model).model)
    assert model.SerializeToString() == given
    assert list(made.graph.output) == list(model.graph.output)
    assert np.array_equal(run(made), run(model))
    assert [node.op_type for node in made.graph.node] == (["MatMul"] if inside else ["MatMul", "ZipMap"])


def test_a_graph_whose_types_cannot_be_told_is_refused_in_a_sentence() -> None:
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"])], {"w": W})
    model.opset_import[0].domain = "ai.onnx.ml"  # the operator set that Add is of is not imported
    with pytest.raises(BadModelFile, match="contradicts itself"):
        cleaning.normalized(model)


def test_a_model_of_other_operators_alone_has_none_to_raise() -> None:
    """scikit-learn's converters leave the default operator set out; ONNX's converter dies of that."""
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0] * 4, scale=[2.0] * 4)
    model = model_of([node], {})
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    made = cleaning.raised(cleaning.normalized(model, "m").model, 13, "m")
    assert {(entry.domain, entry.version) for entry in made.opset_import} == {("", 13), ("ai.onnx.ml", 3)}
    np.testing.assert_array_equal(run(made), X * 2)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [8, 9, 10])
def test_what_is_enlarged_by_an_old_operator_set_stays_the_same(opset: int, mode: str) -> None:
    scales = np.array([1, 1, 1, 2.5], np.float32)
    node = helper.make_node("Resize" if opset > 9 else "Upsample", ["x", "s"][: 1 + (opset > 8)], ["y"], mode=mode)
    if opset < 9:
        node.attribute.append(helper.make_attribute("scales", scales.tolist()))
    values = [helper.make_tensor_value_info(name, FLOAT, [1, 1, 1, length]) for name, length in (("x", 4), ("y", 10))]
    constants = [numpy_helper.from_array(scales, "s")] if opset > 8 else []
    graph = helper.make_graph([node], "g", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=5)
    made = cleaning.raised(cleaning.normalized(model).model, 13, "m.onnx")
    found = [
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": X.reshape(1, 1, 1, 4)}
        )[0]
        for each in (model, made)
    ]
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)


def test_a_sparse_constant_becomes_a_weight() -> None:
    values = numpy_helper.from_array(np.array([2, 3], np.float32), "v")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0, 3]), "i"), [4])
    model = model_of([constant("c", sparse_value=sparse), helper.make_node("Add", ["x", "c"], ["y"])], {})
    assert np.array_equal(run(cleaning.normalized(model).model), X + np.array([2, 0, 0, 3], np.float32))


def test_a_loop_keeps_the_places_of_inputs_that_it_leaves_out() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["x"], ["row"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c", 9, [])],
        [helper.make_tensor_value_info("d", 9, []), helper.make_tensor_value_info("row", FLOAT, ["n", 4])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Loop", ["two", ""], ["rows"], body=body),
        helper.make_node("ReduceSum", ["rows", "zero"], ["y"], keepdims=0),
    ]  # fmt: skip
    model = model_of(nodes, {"two": np.array(2), "zero": np.array([0])})
    assert np.array_equal(run(cleaning.without_dead_parts(cleaning.normalized(model).model)), 2 * X)
