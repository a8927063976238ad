"""What two files may differ in and still be alike, and what must not pass for alike: without a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from exporters.model_file import ModelFile
from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.test_diff import of
from tests.unit.inspection.tiny_graphs import convolutional, drawn, quantized
from toolchain.cli import nnx
from toolchain.errors import ExitCode, explain
from toolchain.inspection.diff import head
from toolchain.inspection.difference import Difference
from toolchain.inspection.operations import Operations

Weights = dict[str, tiny_graphs.Array]


def compared(a: onnx.ModelProto, b: onnx.ModelProto, tmp_path: Path) -> Difference:
    return of(a, b, tmp_path, run=False)


def model(*nodes: onnx.NodeProto, weights: Weights, inputs: Sequence[str] = ("x",), opset: int = 20) -> onnx.ModelProto:
    return tiny_graphs.model(nodes, {name: [4, 4] for name in inputs}, {"y": [4, 4]}, weights, opset=opset)


def node(operator: str, *read: str, made: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, read, [made], name=f"the {operator}", **attributes)


def changes(found: Difference) -> list[tuple[str, str, str]]:
    assert not found.alike
    return [(each.what, each.a, each.b) for each in found.changed]


def test_other_int8_weights_behind_pairs_of_an_older_opset_differ(tmp_path: Path) -> None:
    one, two = quantized(convolutional()), quantized(convolutional())
    for made in (one, two):
        made.opset_import[0].version, made.ir_version = 17, 8
    assert compared(one, two, tmp_path).alike
    tensor = next(each for each in two.graph.initializer if each.name == "body.weight_q")
    old = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.roll(old, 1), tensor.name))
    found = compared(one, two, tmp_path)
    assert [(each.a, each.b) for each in found.weights] == [("body.weight_dq", "body.weight_dq")]
    assert found.weights[0].sqnr_db is not None and found.weights[0].sqnr_db < 0


def test_weights_too_large_to_compute_are_compared_by_what_the_file_holds(tmp_path: Path) -> None:
    """4-bit weights, their scales and zero points: 2**24 values and more are not unpacked."""
    width, rows = 8192, 2049

    def packed(byte: int, scale: float) -> onnx.ModelProto:
        layer = helper.make_node(
            "MatMulNBits", ["x", "w", "s"], ["y"], name="big", domain="com.microsoft", K=width, N=rows, block_size=width
        )
        held: Weights = {
            "w": np.full((rows, 1, width // 2), byte, np.uint8),
            "s": np.full(rows, scale, np.float32),
        }
        return tiny_graphs.model([layer], {"x": [1, width]}, {"y": [1, rows]}, held, domains=["com.microsoft"])

    assert compared(packed(1, 0.5), packed(1, 0.5), tmp_path).alike
    for other in (packed(2, 0.5), packed(1, 0.25)):
        found = compared(packed(1, 0.5), other, tmp_path)
        assert [(each.a, each.sqnr_db) for each in found.weights] == [("w", None)]


def test_a_square_weight_that_is_read_turned_is_the_same(tmp_path: Path) -> None:
    one = model(node("Gemm", "x", "w", transB=1), weights={"w": drawn(4, 4)})
    two = model(node("MatMul", "x", "w"), weights={"w": np.ascontiguousarray(drawn(4, 4).T)})
    assert [each.sqnr_db for each in compared(one, two, tmp_path).weights] in ([], [200.0])


@pytest.mark.parametrize(
    ("one", "two", "wanted"),
    [
        (node("Gemm", "x", "w", "b"), node("Gemm", "x", "w"), ("reads", "b", "")),
        (node("Clip", "x", "lo", "hi"), node("Clip", "x", "lo"), ("reads", "hi", "")),
        (node("Sub", "x", "b"), node("Sub", "b", "x"), ("reads", "x", "b")),
        (node("Add", "x", "x"), node("Add", "x", "z"), ("reads", "x", "z")),
        (node("Mul", "x", "z"), node("Mul", "x", "b"), ("reads", "z", "b")),
    ],
)
def test_what_only_one_side_reads_is_a_change(
    one: onnx.NodeProto, two: onnx.NodeProto, wanted: tuple[str, str, str], tmp_path: Path
) -> None:
    held: Weights = {"w": drawn(4, 4), "b": drawn(4), "lo": np.array(0, np.float32), "hi": np.array(6, np.float32)}
    a, b = (model(each, weights=held, inputs=("x", "z")) for each in (one, two))
    assert changes(compared(a, b, tmp_path))[0] == wanted


def test_a_sum_after_a_product_is_the_bias_that_the_other_does_not_have(tmp_path: Path) -> None:
    held: Weights = {"w": drawn(4, 4), "b": drawn(4)}
    one = model(node("MatMul", "x", "w", made="p"), node("Add", "p", "b"), weights=held)
    two = model(node("MatMul", "x", "w"), weights=held)
    assert changes(compared(one, two, tmp_path)) == [("reads", "b", "")]


def test_the_order_of_what_is_added_is_no_difference_but_another_weight_is(tmp_path: Path) -> None:
    def scaled(factor: float, *read: str) -> onnx.ModelProto:
        return model(node("Mul", *read), weights={"w": drawn(4, 4) * np.float32(factor)})

    assert compared(scaled(1, "x", "w"), scaled(1, "w", "x"), tmp_path).alike
    found = compared(scaled(1, "x", "w"), scaled(2, "w", "x"), tmp_path)
    assert found.changed == ()
    assert [(each.a, each.sqnr_db is not None and round(each.sqnr_db)) for each in found.weights] == [("w", 0)]

    def summed(*read: str) -> onnx.ModelProto:
        parts = [node("Relu", "x", made="a"), node("Tanh", "x", made="s"), node("Add", *read)]
        return model(*parts, weights={})

    assert compared(summed("a", "s"), summed("s", "a"), tmp_path).alike


def choosing(inside: str, held: tiny_graphs.Array, *, read: tuple[str, str] = ("x", "z")) -> onnx.ModelProto:
    def branch(name: str, first: str, second: str) -> onnx.GraphProto:
        tensor = numpy_helper.from_array(held, f"{inside} weight")
        nodes = [helper.make_node("Sub", [first, second], [f"{inside} d"])]
        nodes.append(helper.make_node("Add", [f"{inside} d", tensor.name], [name]))
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4])
        return helper.make_graph(nodes, name, [], [out], [tensor])

    branches = {"then_branch": branch("t", "x", "z"), "else_branch": branch("e", *read)}
    return model(node("If", "which", **branches), weights={"which": np.array(True)}, inputs=("x", "z"))


def test_weights_inside_branches_are_compared(tmp_path: Path) -> None:
    assert compared(choosing("a", drawn(4)), choosing("b", drawn(4)), tmp_path).alike
    found = compared(choosing("a", drawn(4)), choosing("a", drawn(4, seed=1)), tmp_path)
    assert [what for what, *_ in changes(found)] == ["else_branch", "then_branch"]


def test_what_branches_read_from_around_them_is_compared(tmp_path: Path) -> None:
    found = compared(choosing("a", drawn(4)), choosing("a", drawn(4), read=("z", "x")), tmp_path)
    assert ("reads", "x", "z") in changes(found)


def test_names_around_a_branch_are_no_difference(tmp_path: Path) -> None:
    """Sorted by their names, 'x' and 'z' would change places."""

    def subtracted(first: str, second: str) -> onnx.ModelProto:
        out = helper.make_tensor_value_info("t", TensorProto.FLOAT, [4, 4])
        inner = helper.make_graph([helper.make_node("Sub", [first, second], ["t"])], "inner", [], [out])
        parts = [node("Relu", "x", made=first), node("Tanh", "x", made=second)]
        parts.append(node("If", "which", then_branch=inner, else_branch=inner))
        return model(*parts, weights={"which": np.array(True)})

    assert compared(subtracted("a", "b"), subtracted("b", "a"), tmp_path).alike


def test_doubles_are_compared_in_all_their_digits(tmp_path: Path) -> None:
    def shifted(by: float) -> onnx.ModelProto:
        return tiny_graphs.model(
            [node("Add", "x", "b")], {"x": [2, 4]}, {"y": [2, 4]}, {"b": np.array(by)}, kind=TensorProto.DOUBLE
        )

    assert of(shifted(1.0), shifted(1.0), tmp_path).alike
    found = of(shifted(1.0), shifted(1.0 + 1e-12), tmp_path)
    assert found.values is not None and found.values.differs is not None
    assert found.values.differs.max_difference == pytest.approx(1e-12, rel=1e-3)
    assert any("'y', made by the Add: over 200 dB, largest difference 1e-12" in line for line in head(found))


def test_a_default_is_that_of_the_models_own_opset(tmp_path: Path) -> None:
    """Softmax took axis 1 until opset 12, the last one since 13."""
    older, newer = (model(node("Softmax", "x"), weights={}, opset=opset) for opset in (11, 20))
    found = compared(older, newer, tmp_path)
    assert ("axis", "1", "-1") in changes(found)


def test_what_goes_without_saying_may_be_said(tmp_path: Path) -> None:
    def convolved(**stated: Any) -> onnx.ModelProto:
        layer = helper.make_node("Conv", ["x", "w"], ["y"], **stated)
        return tiny_graphs.model([layer], {"x": [1, 3, 8, 8]}, {"y": None}, {"w": drawn(4, 3, 3, 3)})

    usual = {"kernel_shape": [3, 3], "pads": [0, 0, 0, 0], "strides": [1, 1], "dilations": [1, 1]}
    assert compared(convolved(), convolved(**usual), tmp_path).alike
    found = compared(convolved(**usual), convolved(strides=[2, 2]), tmp_path)
    assert changes(found)[0] == ("strides", "(1, 1)", "(2, 2)")


def test_the_name_and_encoding_of_a_constant_inside_a_node_are_no_difference(tmp_path: Path) -> None:
    def filled(value: onnx.TensorProto) -> onnx.ModelProto:
        return model(node("ConstantOfShape", "x", value=value), weights={})

    raw = numpy_helper.from_array(np.array([2.5], np.float32), "raw")
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [1], [2.5])
    assert compared(filled(raw), filled(typed), tmp_path).alike
    other = numpy_helper.from_array(np.array([2.0], np.float32))
    assert [what for what, *_ in changes(compared(filled(raw), filled(other), tmp_path))] == ["value"]


def test_a_name_of_the_interface_is_listed_and_no_difference(tmp_path: Path) -> None:
    one = model(node("Relu", "x"), weights={})
    two = model(node("Relu", "picture"), weights={}, inputs=("picture",))
    found = compared(one, two, tmp_path)
    assert found.alike
    assert [(each.what, each.a, each.b) for each in found.interface] == [("input name", "x", "picture")]


def test_tensors_of_four_bits_are_left_out_and_counted(tmp_path: Path) -> None:
    """One by one: the others in their session are compared."""
    zero = helper.make_tensor("zero", TensorProto.INT4, [], [0])
    nodes = [
        node("QuantizeLinear", "x", "scale", "zero", made="q"),
        node("Transpose", "q", made="t"),
        node("DequantizeLinear", "t", "scale", "zero", made="d"),
        node("Sigmoid", "d"),
    ]
    made = model(*nodes, weights={"scale": np.array(0.5, np.float32)}, opset=21)
    made.graph.initializer.append(zero)
    found = of(made, made, tmp_path)
    assert found.values is not None
    assert (found.values.left_out, [each.a for each in found.values.tensors]) == (1, ["y"])
    assert found.alike
    assert any(line.startswith("1 tensor could not be looked at") for line in head(found))


def test_constants_are_computed_as_the_runtime_computes_them(tmp_path: Path) -> None:
    made = quantized(convolutional())
    made.opset_import[0].version, made.ir_version = 13, 7
    onnx.save(made, tmp_path / "m.onnx")
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    found = Operations(ModelFile(tmp_path / "m.onnx")).value("head.weight_dq")
    assert found is not None
    assert np.array_equal(found, held["head.weight_q"].astype(np.float32) * held["head.weight_scale"])


def test_only_one_of_the_exit_codes_says_that_nothing_differs(tmp_path: Path) -> None:
    """Nothing could be run: that is undecided, and a difference that the files hold is one all the same."""
    alone = helper.make_node("Mystery", ["x"], ["y"], domain="my.own", name="m")
    other = helper.make_node("Mystery", ["x"], ["y"], domain="my.own", name="m", depth=2)
    for name, each in (("a", alone), ("b", other)):
        made = tiny_graphs.model([each], {"x": [2, 4]}, {"y": [2, 4]}, {}, domains=["my.own"])
        onnx.save(made, tmp_path / f"{name}.onnx")
    a, b = str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")
    codes = {
        (a, a): ExitCode.UNDECIDED,
        (a, b): ExitCode.CHECK_FAILED,
        (a, a, "--no-run"): ExitCode.DONE,
    }
    for given, wanted in codes.items():
        found = CliRunner().invoke(nnx, ["diff", *given, "--exit-code"])
        told = None if found.exception is None else explain(found.exception)
        assert (ExitCode.DONE if told is None else told[2]) == wanted
    assert "Nothing but names differs in what the files hold" in found.output
