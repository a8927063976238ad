"""Two models side by side: what matching by structure finds whatever things are called, and where values part."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.model_file import ModelFile
from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.tiny_graphs import convolutional, drawn, quantized, renamed
from toolchain.inspection.diff import diff, head, tables
from toolchain.inspection.difference import Difference
from toolchain.progress import SILENT


def of(a: onnx.ModelProto, b: onnx.ModelProto, tmp_path: Path, *, run: bool = True) -> Difference:
    files = []
    for name, model in (("a", a), ("b", b)):
        onnx.save(model, tmp_path / f"{name}.onnx")
        files.append(ModelFile(tmp_path / f"{name}.onnx"))
    found = diff(*files, run=run, progress=SILENT)
    assert list(head(found))  # and can be shown
    assert all(len(table.headings) == len(row) for table in tables(found) for row in table.rows)
    return found


def weight(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return found


def test_a_model_is_like_itself(tmp_path: Path) -> None:
    found = of(convolutional(), convolutional(), tmp_path)
    assert found.alike
    assert (found.matched, found.renamed, found.weights_equal) == (6, 0, 5)


def test_names_are_no_difference(tmp_path: Path) -> None:
    found = of(convolutional(), renamed(convolutional()), tmp_path)
    assert found.alike
    assert found.renamed == 6


def test_names_that_were_swapped_mislead_nobody(tmp_path: Path) -> None:
    """By their names, each convolution would be the other one."""
    other = convolutional()
    nodes = {node.name: node for node in other.graph.node}
    nodes["stem"].name, nodes["body"].name = "body", "stem"
    for tensor in other.graph.initializer:
        tensor.name = {"stem.weight": "body.weight", "body.weight": "stem.weight"}.get(tensor.name, tensor.name)
    nodes["stem"].input[1], nodes["body"].input[1] = "body.weight", "stem.weight"
    assert of(convolutional(), other, tmp_path).alike


def test_nodes_in_another_order_and_constants_as_nodes_are_no_difference(tmp_path: Path) -> None:
    other = convolutional()
    held = weight(other, "head.bias")
    other.graph.initializer.remove(held)
    nodes = [
        helper.make_node("Constant", [], ["head.bias"], value=numpy_helper.from_array(numpy_helper.to_array(held)))
    ]
    nodes += list(other.graph.node)
    del other.graph.node[:]
    other.graph.node.extend(nodes)
    assert of(convolutional(), other, tmp_path).alike


def test_a_changed_weight_is_named_and_values_part_there(tmp_path: Path) -> None:
    other = renamed(convolutional())
    weight(other, "new_body.weight").CopyFrom(numpy_helper.from_array(drawn(16, 8, 3, 3, seed=9), "new_body.weight"))
    found = of(convolutional(), other, tmp_path)
    assert [(each.a, each.b) for each in found.weights] == [("body.weight", "new_body.weight")]
    assert found.weights[0].sqnr_db is not None and found.weights[0].sqnr_db < 0
    assert found.weights_equal == 4
    assert found.values is not None and found.values.parts is not None
    assert (found.values.parts.a, found.values.parts.node) == ("c", "body")
    assert not (found.only_a or found.only_b or found.changed)


def test_an_inserted_node_is_named_and_the_rest_still_matches(tmp_path: Path) -> None:
    other = renamed(convolutional())
    nodes = list(other.graph.node)
    nodes.insert(3, helper.make_node("Sigmoid", ["new_c"], ["squashed"], name="extra"))
    nodes[4].input[0] = "squashed"
    del other.graph.node[:]
    other.graph.node.extend(nodes)
    found = of(convolutional(), other, tmp_path)
    assert (found.matched, found.only_a, found.only_b) == (6, (), ("extra (Sigmoid)",))
    assert found.values is not None and found.values.parts is not None
    assert found.values.parts.node == "pool"


def test_attributes_and_defaults(tmp_path: Path) -> None:
    """One that is given as its default is no change."""
    other = convolutional()
    other.graph.node[0].attribute.append(helper.make_attribute("group", 1))
    assert of(convolutional(), other, tmp_path).alike
    other.graph.node[2].attribute[0].ints[:] = [0, 1, 0, 1]
    found = of(convolutional(), other, tmp_path)
    assert ("body", "pads", "(1, 1, 1, 1)", "(0, 1, 0, 1)") in [
        (each.where, each.what, each.a, each.b) for each in found.changed
    ]
    assert ("body", "shape") in [(each.where, each.what) for each in found.changed]


def test_an_operator_that_was_exchanged(tmp_path: Path) -> None:
    other = convolutional()
    other.graph.node[1].op_type = "Tanh"
    found = of(convolutional(), other, tmp_path)
    assert (found.only_a, found.only_b) == (("act (Relu)",), ("act (Tanh)",))
    assert found.values is not None and found.values.parts is not None
    assert found.values.parts.node == "body"


def test_interface(tmp_path: Path) -> None:
    other = convolutional()
    other.graph.input[0].name = "picture"
    other.graph.node[0].input[0] = "picture"
    other.opset_import[0].version = 19
    found = of(convolutional(), other, tmp_path)
    assert [(each.what, each.where) for each in found.interface] == [("input name", "x"), ("opset", "ai.onnx")]
    assert found.values is not None and found.values.differs is None, "the input is matched by its place"


def test_int8_against_its_source_through_pairs_and_a_relu_that_rounding_does(tmp_path: Path) -> None:
    found = of(convolutional(), quantized(convolutional()), tmp_path)
    assert (found.only_a, found.only_b) == ((), ())
    assert found.rounding_b == {"QuantizeLinear": 3, "DequantizeLinear": 3}
    off = {each.a: each.sqnr_db for each in found.weights}
    assert set(off) == {"stem.weight", "body.weight", "head.weight"}
    assert all(db is not None and db > 30 for db in off.values())
    assert found.values is not None
    values = {each.node: each.sqnr_db for each in found.values.tensors}
    assert "act" in values and "stem" not in values
    assert all(db is not None and db > 15 for db in values.values())
    assert found.values.parts is None


def test_a_wrong_scale_in_an_int8_file_is_where_values_part(tmp_path: Path) -> None:
    other = quantized(convolutional())
    weight(other, "c_scale").CopyFrom(numpy_helper.from_array(np.array(0.002, np.float32), "c_scale"))
    found = of(convolutional(), other, tmp_path)
    assert found.values is not None and found.values.parts is not None
    assert found.values.parts.node == "body"


def test_half_precision_through_casts(tmp_path: Path) -> None:
    other = convolutional()
    for tensor in other.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    nodes = [helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16, name="in"), *other.graph.node]
    nodes[1].input[0], nodes[-1].output[0] = "x16", "y16"
    nodes.append(helper.make_node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT, name="out"))
    del other.graph.node[:]
    other.graph.node.extend(nodes)
    found = of(convolutional(), other, tmp_path)
    assert (found.matched, found.only_a, found.only_b, found.rounding_b) == (6, (), (), {"Cast": 2})
    assert found.values is not None and found.values.parts is None and found.values.differs is not None
    assert all(each.sqnr_db is not None and each.sqnr_db > 60 for each in found.weights)


def test_a_gemm_and_a_product_with_a_sum_are_one(tmp_path: Path) -> None:
    gemm = tiny_graphs.model(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, name="layer")],
        {"x": ["n", 8]}, {"y": ["n", 4]}, {"w": drawn(4, 8), "b": drawn(4, seed=1)},
    )  # fmt: skip
    two = tiny_graphs.model(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])],
        {"x": ["n", 8]}, {"y": ["n", 4]}, {"w": np.ascontiguousarray(drawn(4, 8).T), "b": drawn(4, seed=1)},
    )  # fmt: skip
    found = of(gemm, two, tmp_path)
    assert (found.matched, found.only_a, found.only_b) == (1, (), ())
    assert [(each.a, each.sqnr_db) for each in found.weights] == [("w", 200.0)]
    assert found.values is not None and found.values.parts is None


def test_dynamic_int8_is_its_product(tmp_path: Path) -> None:
    values = drawn(8, 4)
    scale = np.asarray(np.abs(values).max() / 127, np.float32)
    plain = tiny_graphs.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 8]}, {"y": ["n", 4]}, {"w": values}
    )
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w8", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    weights: dict[str, tiny_graphs.Array] = {"w8": np.rint(values / scale).astype(np.int8), "ws": scale}
    found = of(plain, tiny_graphs.model(nodes, {"x": ["n", 8]}, {"y": ["n", 4]}, weights), tmp_path)
    assert (found.matched, found.only_a, found.only_b) == (1, (), ())
    assert found.weights[0].sqnr_db is not None and found.weights[0].sqnr_db > 35
    assert found.values is not None and found.values.tensors[0].sqnr_db is not None
    assert found.values.tensors[0].sqnr_db > 30


def test_two_like_branches_are_not_confused(tmp_path: Path) -> None:
    """Three products of one input, alike but for their weights, in another order under other names."""

    def three(order: list[int], prefix: str) -> onnx.ModelProto:
        nodes = [helper.make_node("MatMul", ["x", f"{prefix}{index}"], [f"{prefix}p{index}"]) for index in order]
        total = [f"{prefix}p{index}" for index in range(3)]
        nodes.append(helper.make_node("Concat", total, ["y"], axis=1))
        weights = {f"{prefix}{index}": drawn(4, 4, seed=index) for index in range(3)}
        return tiny_graphs.model(nodes, {"x": ["n", 4]}, {"y": ["n", 12]}, weights)

    assert of(three([0, 1, 2], "w"), three([2, 0, 1], "other"), tmp_path).alike


def test_integer_outputs_are_compared_exactly(tmp_path: Path) -> None:
    def chosen(shift: float) -> onnx.ModelProto:
        nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("ArgMax", ["a"], ["y"], axis=1)]
        made = tiny_graphs.model(
            nodes, {"x": ["n", 4]}, {}, {"b": np.array([shift, 0, 0, 0], np.float32)}
        )  # fmt: skip
        made.graph.output.append(helper.make_tensor_value_info("y", TensorProto.INT64, ["n", 1]))
        return made

    found = of(chosen(0.0), chosen(9.0), tmp_path)
    assert found.values is not None
    assert found.values.outputs[0].sqnr_db is None
    assert found.values.outputs[0].equal < 1


def test_branches_that_differ_inside_are_a_change(tmp_path: Path) -> None:
    def choosing(operator: str) -> onnx.ModelProto:
        def branch(name: str, kind: str) -> onnx.GraphProto:
            value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4])
            return helper.make_graph([helper.make_node(kind, ["x"], [name])], name, [], [value])

        branches = {"then_branch": branch("t", "Relu"), "else_branch": branch("e", operator)}
        node = helper.make_node("If", ["which"], ["y"], name="choice", **branches)
        return tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 4]}, {"which": np.array(True)})

    assert of(choosing("Tanh"), choosing("Tanh"), tmp_path).alike
    assert [each.what for each in of(choosing("Tanh"), choosing("Sigmoid"), tmp_path).changed] == ["else_branch"]


def test_what_does_not_run_is_compared_without_values(tmp_path: Path) -> None:
    def own(name: str) -> onnx.ModelProto:
        node = helper.make_node("Mystery", ["x"], ["y"], domain="my.own", name=name)
        return tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 4]}, {}, domains=["my.own"])

    found = of(own("one"), own("two"), tmp_path)
    assert found.values is None
    assert found.why_no_values
    assert found.matched == 1


@pytest.mark.parametrize("run", [True, False])
def test_the_json_has_all_of_it(run: bool, tmp_path: Path) -> None:
    text = of(convolutional(), quantized(convolutional()), tmp_path, run=run).to_json()
    assert '"schema_version": 1' in text
    assert ('"values": null' in text) is not run
