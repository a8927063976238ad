"""Multiply-accumulates of bodies as often as they run, of functions, and of attention with a past."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.tiny_graphs import drawn
from toolchain.inspection import contents, macs, modules


def value(name: str, shape: list[int] | None = None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def looped(trip: onnx.NodeProto) -> onnx.NodeProto:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["state", "square"], ["next"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [value("turn", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("state", [2, 4])],
        [value("on", [], TensorProto.BOOL), value("next", [2, 4])],
    )
    return helper.make_node("Loop", [trip.output[0], "", "x"], ["y"], body=body)


def test_the_turns_of_a_loop_from_a_constant_node() -> None:
    trip = helper.make_node("Constant", [], ["times"], value=numpy_helper.from_array(np.array(5)))
    made = tiny_graphs.model([trip, looped(trip)], {"x": [2, 4]}, {"y": [2, 4]}, {"square": drawn(4, 4)})
    work, _ = macs.counted(made, {})
    assert (work.macs, work.notes) == (5 * 2 * 4 * 4, ())


def test_the_turns_of_a_loop_inside_a_branch_from_a_constant_around_it() -> None:
    trip = helper.make_node("Constant", [], ["times"], value=numpy_helper.from_array(np.array(5)))
    loop = looped(trip)
    loop.output[0] = "t"
    branch = helper.make_graph([loop], "then", [], [value("t", [2, 4])])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["e"])], "else", [], [value("e", [2, 4])])
    node = helper.make_node("If", ["which"], ["y"], then_branch=branch, else_branch=other)
    weights: dict[str, tiny_graphs.Array] = {"which": np.array(True), "square": drawn(4, 4)}
    made = tiny_graphs.model([trip, node], {"x": [2, 4]}, {"y": [2, 4]}, weights)
    assert macs.counted(made, {})[0].macs == 5 * 2 * 4 * 4


def scanned(opset: int, **attributes: Any) -> onnx.ModelProto:
    """A product of each slice of x, [3, 7, 4]."""
    rows = 3 if attributes else 7
    body = helper.make_graph(
        [helper.make_node("MatMul", ["slice", "w"], ["made"])], "body",
        [value("slice", [4] if opset < 9 else [rows, 4])], [value("made", [5] if opset < 9 else [rows, 5])],
    )  # fmt: skip
    read = ["", "x"] if opset < 9 else ["x"]
    node = helper.make_node("Scan", read, ["y"], body=body, num_scan_inputs=1, **attributes)
    return tiny_graphs.model([node], {"x": [3, 7, 4]}, {"y": None}, {"w": drawn(4, 5)}, opset=opset, ir=8)


@pytest.mark.parametrize(
    ("opset", "attributes"), [(20, {}), (20, {"scan_input_axes": [1]}), (20, {"scan_input_axes": [-2]}), (8, {})]
)
def test_the_turns_of_a_scan_are_along_its_axis(opset: int, attributes: dict[str, Any]) -> None:
    """Before opset 9 axis 0 is a batch, and each of its samples is scanned alone."""
    assert macs.counted(scanned(opset, **attributes), {})[0].macs == 3 * 7 * 4 * 5


def test_what_cannot_be_counted_in_the_lighter_branch_is_said() -> None:
    product = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["t"])], "then", [], [value("t")])
    mystery = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["m"], domain="my.own"), helper.make_node("MatMul", ["m", "w"], ["e"])],
        "else", [], [value("e")],
    )  # fmt: skip
    node = helper.make_node("If", ["which"], ["y"], then_branch=product, else_branch=mystery)
    made = tiny_graphs.model([node], {"x": [2, 4]}, {"y": None}, {"w": drawn(4, 4)}, domains=["my.own"])
    made.graph.input.append(value("which", [], TensorProto.BOOL))
    work, _ = macs.counted(made, {})
    assert work.macs == 2 * 4 * 4
    assert {each.operator for each in work.not_counted} == {"MatMul", "my.own.Mystery"}


def contrib(operator: str, shapes: dict[str, list[int]], **attributes: Any) -> int:
    """An input called - is left out."""
    read = ["" if name.startswith("-") else name for name in shapes]
    node = helper.make_node(operator, read, ["y"], domain="com.microsoft", **attributes)
    inputs = {name: shape for name, shape in shapes.items() if not name.startswith("-")}
    work, _ = macs.counted(tiny_graphs.model([node], inputs, {"y": None}, {}, domains=["com.microsoft"]), {})
    assert not work.not_counted
    return work.macs


def test_attention_looks_at_the_past_too() -> None:
    multi_head = {"q": [2, 3, 8], "k": [2, 3, 8], "v": [2, 3, 8], "-3": [], "-4": [], "-5": []}
    past = {"pk": [2, 2, 10, 4], "pv": [2, 2, 10, 4]}
    assert contrib("MultiHeadAttention", {**multi_head, **past}, num_heads=2) == 2 * 3 * (3 + 10) * 16
    packed = {"x": [2, 3, 8], "w": [8, 24], "b": [24], "-3": [], "past": [2, 2, 2, 10, 4]}
    assert contrib("Attention", packed, num_heads=2) == 2 * 3 * 8 * 24 + 2 * 3 * (3 + 10) * 16


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_a_causal_convolution_with_a_state(domain: str) -> None:
    node = helper.make_node("CausalConvWithState", ["x", "w"], ["y", "s"], domain=domain)
    made = tiny_graphs.model(
        [node], {"x": [2, 6, 9]}, {"y": [2, 6, 9], "s": [2, 6, 3]}, {"w": drawn(6, 1, 4)},
        opset=20 if domain else 27, ir=13, domains=[domain] if domain else [],
    )  # fmt: skip
    work, _ = macs.counted(made, {})
    assert (work.macs, work.not_counted) == (2 * 6 * 9 * 4, ())


def test_modules_have_the_work_of_the_functions_that_they_call() -> None:
    product = helper.make_function(
        "my.own", "Product", ["a", "b"], ["c"],
        [helper.make_node("MatMul", ["a", "b"], ["p"], name="product"), helper.make_node("Relu", ["p"], ["c"])],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Product", ["x", "first.weight"], ["m"], domain="my.own", name="one"),
        helper.make_node("Product", ["m", "second.weight"], ["y"], domain="my.own"),
    ]
    weights = {"first.weight": drawn(4, 3), "second.weight": drawn(3, 5)}
    made = tiny_graphs.model(nodes, {"x": [2, 4]}, {"y": [2, 5]}, weights, domains=["my.own"])
    made.functions.append(product)
    tree, _ = modules.tree(made, contents.parameters(made), macs.counted(made, {})[1].by_node)
    assert [(each.path, each.macs) for each in tree] == [("first", 2 * 4 * 3), ("second", 2 * 3 * 5)]
