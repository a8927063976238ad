"""What is no fault although it looks like one, and what is said of those that are."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.test_check import kinds, of
from tests.unit.inspection.tiny_graphs import convolutional, drawn, quantized
from toolchain.inspection import graph_checks, macs
from toolchain.inspection.check import check
from toolchain.inspection.faults import Fault, Verdict


def only(verdict: Verdict) -> Fault:
    (found,) = verdict.faults
    return found


def reshaped() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"], name="product"),
    ]
    return tiny_graphs.model(nodes, {"x": [2, 2, 4]}, {"y": [4, 3]}, {"to": np.array([4, 4]), "w": drawn(4, 3)})


def test_weights_beside_the_file_are_read_before_shapes_are_judged(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(reshaped(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    found = only(check(path))
    assert (found.kind, found.do.endswith("--external-data never.")) == ("target", True)  # which ONNX Runtime refuses
    (tmp_path / "m.data").unlink()
    verdict = check(path)
    assert kinds(verdict) == {("data", "to"), ("data", "w")}
    assert any(each.startswith("shapes") for each in verdict.left_out)


def halves(node: onnx.NodeProto, weight: tiny_graphs.Array, shape: list[int]) -> onnx.ModelProto:
    return tiny_graphs.model(
        [node], {"x": shape}, {"y": ["a"] * len(shape)}, {"w": weight.astype(np.float16)}, kind=TensorProto.FLOAT16
    )


@pytest.mark.parametrize(
    ("operator", "attributes", "shape", "inputs", "worst"),
    [
        ("ConvTranspose", {}, (4, 9, 2, 2), [1, 4, 5, 5], 4 * 4 * 3000),
        ("ConvTranspose", {"group": 2}, (8, 9, 2, 2), [1, 8, 5, 5], 4 * 4 * 3000),
        ("ConvTranspose", {}, (8, 9, 2, 2), [1, 8, 5, 5], 8 * 4 * 3000),
        ("MatMul", {}, (9, 16, 3), [9, 2, 16], 16 * 3000),
        ("MatMul", {}, (2, 32, 3), [2, 2, 32], 32 * 3000),
        ("Gemm", {"transB": 1}, (32, 16), [2, 16], 16 * 3000),
        ("Conv", {}, (32, 4, 2, 2), [1, 4, 5, 5], 16 * 3000),
    ],
)
def test_sums_are_over_what_a_result_adds_up(
    operator: str, attributes: dict[str, Any], shape: tuple[int, ...], inputs: list[int], worst: int, tmp_path: Path
) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"], name="product", **attributes)
    found = [each for each in of(halves(node, np.full(shape, 3000.0), inputs), tmp_path).faults if each.kind == "fp16"]
    if worst <= 65504:
        assert found == []
    else:
        assert f"sum up to {worst:,}: inputs of ±1 may overflow" in found[0].what
        assert found[0].severity == "warning"


def test_a_mask_that_is_cast_is_no_overflow(tmp_path: Path) -> None:
    def masked(reader: str) -> Verdict:
        nodes = [helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT16, name="cast")]
        nodes.append(helper.make_node(reader, ["x", "m"], ["y"]))
        mask: dict[str, tiny_graphs.Array] = {"mask": np.array([[0, -3.4e38]], np.float32)}
        made = tiny_graphs.model(nodes, {"x": [2, 2]}, {"y": [2, 2]}, mask, kind=TensorProto.FLOAT16)
        return of(made, tmp_path)

    assert masked("Add").faults == ()
    assert ("fp16", "cast") in kinds(masked("Mul"))


def with_function(opset: int, *body: onnx.NodeProto) -> onnx.ModelProto:
    function = helper.make_function("my.own", "Part", ["a", "b"], ["c"], body, [helper.make_opsetid("", opset)])
    node = helper.make_node("Part", ["x", "w"], ["y"], domain="my.own")
    made = tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 3]}, {"w": drawn(4, 3)}, domains=["my.own"])
    made.functions.append(function)
    return made


def test_a_function_is_judged_by_the_operator_sets_that_it_imports(tmp_path: Path) -> None:
    """Squeeze took its axes as an attribute until opset 12."""
    body = [
        helper.make_node("MatMul", ["a", "b"], ["p"]),
        helper.make_node("Unsqueeze", ["p"], ["u"], axes=[0]),
        helper.make_node("Squeeze", ["u"], ["c"], axes=[0]),
    ]
    assert not {kind for kind, _ in kinds(of(with_function(12, *body), tmp_path))} & {"operator", "graph"}
    assert {kind for kind, _ in kinds(of(with_function(20, *body), tmp_path))} >= {"operator"}
    assert macs.counted(with_function(12, *body), {})[0].macs == 2 * 4 * 3


def test_the_bodies_of_functions_are_looked_into(tmp_path: Path) -> None:
    found = kinds(of(with_function(20, helper.make_node("MatMul", ["a", "gone"], ["d"], name="part")), tmp_path))
    assert {("graph", "function Part / part"), ("graph", "function Part")} <= found


def test_a_name_that_two_nodes_make(tmp_path: Path) -> None:
    model = convolutional()
    model.graph.node.append(helper.make_node("Relu", ["a"], ["c"], name="again"))
    assert ("graph", "again") in kinds(of(model, tmp_path))


def test_a_dead_node_is_a_warning(tmp_path: Path) -> None:
    model = convolutional()
    model.graph.node.append(helper.make_node("Sigmoid", ["c"], ["nobody"], name="dead"))
    verdict = of(model, tmp_path)
    assert verdict.sound
    assert (only(verdict).kind, only(verdict).where) == ("dead node", "dead")


@pytest.mark.parametrize("inside", ["graph", "function", "floats"])
def test_no_number_in_a_constant_node_is_found(inside: str, tmp_path: Path) -> None:
    values = drawn(4, 3)
    values[1, 1] = np.nan
    held = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(values))
    product = helper.make_node("MatMul", ["x", "k"], ["y"])
    if inside == "floats":
        held = helper.make_node("Constant", [], ["k"], value_floats=[1.0, float("nan"), 1.0, 1.0])
    made = tiny_graphs.model([held, product], {"x": [2, 4]}, {"y": [2] if inside == "floats" else [2, 3]}, {})
    if inside == "function":
        made = with_function(20, held, helper.make_node("MatMul", ["a", "k"], ["c"]))
        del made.graph.initializer[:]
        made.graph.node[0].input[1] = "x"
    found = of(made, tmp_path)
    assert ("weights", "k") in kinds(found)
    assert (
        next(each.what for each in found.faults if each.kind == "weights") == "it has a value that is NaN or infinite"
    )


def test_a_weight_with_a_quote_in_its_name_is_called_by_it(tmp_path: Path) -> None:
    """The name is carried, not read out of a sentence."""
    name = "it's' in m.onnx has 3"
    made = tiny_graphs.model(
        [helper.make_node("MatMul", ["x", name], ["y"])],
        {"x": [2, 4]},
        {"y": [2, 3]},
        {name: np.full((4, 3), np.inf, "f4")},
    )
    assert ("weights", name) in kinds(of(made, tmp_path))
    onnx.save(made, tmp_path / "b.onnx", save_as_external_data=True, location="b.data", size_threshold=0)
    (tmp_path / "b.data").unlink()
    assert kinds(check(tmp_path / "b.onnx")) == {("data", name)}


def test_pairs_around_a_node_without_a_name_say_why_too(tmp_path: Path) -> None:
    model = quantized(convolutional())
    for node in model.graph.node:
        node.name = ""
    found = [each for each in of(model, tmp_path).faults if each.kind == "Q/DQ" and each.severity == "fault"]
    assert [each.where for each in found] == ["Gemm → y"]
    assert "its input 'e' does not come from a DequantizeLinear" in found[0].what


def test_an_operator_of_a_later_opset_is_to_be_had_by_raising_it(tmp_path: Path) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], name="act")
    verdict = of(tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 4]}, {}, opset=17), tmp_path)
    assert {each.do for each in verdict.faults} == {"ONNX has it since opset 20: nnx convert --opset 20."}


def test_an_output_without_a_shape_is_named(tmp_path: Path) -> None:
    made = convolutional()
    made.graph.output[0].type.tensor_type.ClearField("shape")
    found = only(of(made, tmp_path))
    assert (found.kind, found.where, found.what) == (
        "checker",
        "y",
        "this output states no shape, which ONNX wants of it",
    )


def test_a_fault_inside_a_branch_is_told_of_the_node_there(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4])
        return helper.make_graph([helper.make_node("MatMul", ["x", "w"], [name], name="inner")], name, [], [out])

    node = helper.make_node("If", ["which"], ["y"], name="choice", then_branch=branch("t"), else_branch=branch("e"))
    model = tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 4]}, {"which": np.array(True), "w": drawn(5, 4)})
    found = only(of(model, tmp_path))
    assert (found.where, found.what) == ("choice / inner", "Incompatible dimensions for matrix multiplication")


@pytest.mark.parametrize("said", ["vector::reserve", "(op_type:Loop, node name: turn): [ShapeInferenceError] map::at"])
def test_words_of_a_library_are_put_into_ours(said: str) -> None:
    (found,) = graph_checks.told_faults(said)
    assert found.what.startswith("onnx's shape inference fails on the shapes or attributes of")
    assert found.where == ("turn" if "turn" in said else "")
