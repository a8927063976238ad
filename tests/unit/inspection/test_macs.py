"""Multiply-accumulates by hand, one operator after the other, and what is said not to be counted."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.tiny_graphs import drawn
from toolchain.errors import BadUsage
from toolchain.inspection import macs
from toolchain.inspection.shapes import open_axes


def of(node: onnx.NodeProto, inputs: dict[str, list[int]], weights: dict[str, list[int]], opset: int = 20) -> int:
    drawn_ones = {name: np.zeros(shape, np.float32) for name, shape in weights.items()}
    made = tiny_graphs.model(
        [node], inputs, dict.fromkeys(node.output), drawn_ones, opset=opset,
        domains=[node.domain] if node.domain else [],
    )  # fmt: skip
    work, _ = macs.counted(made, {})
    assert not work.not_counted
    return work.macs


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "wanted"),
    [
        (("Conv", "x", "w", {"pads": [1, 1, 1, 1]}), {"x": [2, 3, 8, 8]}, {"w": [16, 3, 3, 3]}, 2 * 16 * 64 * 27),
        (("Conv", "x", "w", {"group": 16}), {"x": [1, 16, 8, 8]}, {"w": [16, 1, 3, 3]}, 16 * 36 * 9),
        (("Conv", "x", "w", {"strides": [2]}), {"x": [1, 4, 9]}, {"w": [6, 4, 3]}, 6 * 4 * 12),
        (("ConvTranspose", "x", "w", {}), {"x": [1, 4, 5, 5]}, {"w": [4, 6, 2, 2]}, 100 * 24),
        (("MatMul", "x", "w", {}), {"x": [2, 7, 12]}, {"w": [12, 5]}, 2 * 7 * 12 * 5),
        (("MatMul", "x", "z", {}), {"x": [2, 3, 7, 12], "z": [3, 12, 5]}, {}, 2 * 3 * 7 * 12 * 5),
        (("MatMul", "x", "w", {}), {"x": [12]}, {"w": [12, 5]}, 60),
        (("Gemm", "x", "w", {"transB": 1}), {"x": [4, 12]}, {"w": [5, 12]}, 4 * 12 * 5),
        (("Gemm", "x", "w", {"transA": 1}), {"x": [12, 4]}, {"w": [12, 5]}, 4 * 12 * 5),
        (
            ("Einsum", "x", "z", {"equation": "bhqd,bhkd->bhqk"}),
            {"x": [2, 3, 5, 8], "z": [2, 3, 7, 8]},
            {},
            2 * 3 * 280,
        ),
        (("Einsum", "x", "z", {"equation": "...ij,...jk->...ik"}), {"x": [2, 3, 4], "z": [2, 4, 5]}, {}, 2 * 3 * 4 * 5),
    ],
)
def test_products_and_convolutions(
    node: tuple[str, str, str, dict[str, Any]],
    inputs: dict[str, list[int]],
    weights: dict[str, list[int]],
    wanted: int,
) -> None:
    operator, one, two, attributes = node
    assert of(helper.make_node(operator, [one, two], ["y"], **attributes), inputs, weights) == wanted


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_by_step_and_direction(operator: str, gates: int) -> None:
    node = helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=6, direction="bidirectional")
    weights = {"w": [2, gates * 6, 4], "r": [2, gates * 6, 6]}
    assert of(node, {"x": [5, 3, 4]}, weights) == 5 * 3 * 2 * gates * 6 * (4 + 6)


def test_attention_of_opset_23() -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"])
    shapes = {"q": [2, 4, 7, 8], "k": [2, 4, 9, 8], "v": [2, 4, 9, 8]}
    assert of(node, shapes, {}, opset=23) == 2 * 4 * 7 * 9 * 16


def test_weights_in_four_bits_count_as_the_matrix_that_they_are() -> None:
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=10, block_size=32)
    made = tiny_graphs.model(
        [node], {"x": [3, 32]}, {"y": [3, 10]},
        {"w": np.zeros((10, 1, 16), np.uint8), "s": np.ones(10, np.float32)}, domains=["com.microsoft"],
    )  # fmt: skip
    assert macs.counted(made, {})[0].macs == 3 * 32 * 10


def test_shapes_that_are_computed_are_followed() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["nn"]),
        helper.make_node("Concat", ["nn", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = {
        "zero": np.array(0), "axes": np.array([0]), "rest": np.array([48]), "w": drawn(48, 10),
    }  # fmt: skip
    made = tiny_graphs.model(nodes, {"x": ["batch", 3, 4, 4]}, {"y": ["batch", 10]}, weights)
    assert macs.counted(made, {})[0].macs == 480
    work, tally = macs.counted(made, {"batch": 6})
    assert (work.macs, work.lengths, work.assumed) == (6 * 480, {"batch": 6}, ())
    assert tally.by_operator["MatMul"] == 6 * 480


def test_pads_that_are_computed_from_constants_are_followed() -> None:
    """As older exporters write them, through a ConstantOfShape."""
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("ConstantOfShape", ["three"], ["none"], value=zero),
        helper.make_node("Concat", ["none", "some"], ["all"], axis=0),
        helper.make_node("Reshape", ["all", "two"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["turned"]),
        helper.make_node("Reshape", ["turned", "flat"], ["pads"]),
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["y"]),
    ]
    weights = {
        "three": np.array([3]), "some": np.array([0, 0, 1]), "two": np.array([3, 2]), "flat": np.array([-1]),
        "w": drawn(5, 4, 3),
    }  # fmt: skip
    made = tiny_graphs.model(nodes, {"x": ["n", 4, 10]}, {"y": None}, weights)
    assert macs.counted(made, {})[0].macs > 0


def test_the_heavier_branch_and_every_turn_count() -> None:
    def product(name: str, width: int) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("MatMul", ["x", f"w{width}"], [name])], name, [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(drawn(4, width), f"w{width}")],
        )  # fmt: skip

    choice = helper.make_node("If", ["which"], ["y"], then_branch=product("t", 3), else_branch=product("e", 7))
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "square"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, 4]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 4]),
        ],
    )
    loop = helper.make_node("Loop", ["times", "", "x"], ["z"], body=body)
    weights = {"which": np.array(True), "times": np.array(5), "square": drawn(4, 4)}
    made = tiny_graphs.model([choice, loop], {"x": [2, 4]}, {"y": None, "z": None}, weights)
    work, _ = macs.counted(made, {})
    assert work.macs == 2 * 4 * 7 + 5 * 2 * 4 * 4
    assert work.notes == ("Of an If the branch that takes more is counted.",)


def test_what_has_no_rule_and_what_has_no_shape_is_said() -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["m"], domain="my.own"),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    made = tiny_graphs.model(nodes, {"x": [2, 4]}, {"y": None}, {"w": drawn(4, 4)}, domains=["my.own"])
    work, _ = macs.counted(made, {})
    assert [(each.operator, each.why) for each in work.not_counted] == [
        ("MatMul", "a length in their inputs is not known"),
        ("my.own.Mystery", "nnx has no rule for it"),
    ]


def test_axes_without_a_name_are_called_by_their_place() -> None:
    made = tiny_graphs.convolutional()
    made.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    assert open_axes(made) == {"x:0": [("x", 0)]}
    assert macs.counted(made, {"x:0": 2})[0].macs == 2 * macs.counted(made, {})[0].macs
    with pytest.raises(BadUsage, match="No input has an open axis 'batch'"):
        macs.counted(made, {"batch": 2})


def test_local_functions_are_looked_into() -> None:
    product = helper.make_function(
        "my.own", "Product", ["a", "b"], ["c"], [helper.make_node("MatMul", ["a", "b"], ["c"])],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    node = helper.make_node("Product", ["x", "w"], ["y"], domain="my.own")
    made = tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 3]}, {"w": drawn(4, 3)}, domains=["my.own"])
    made.functions.append(product)
    assert macs.counted(made, {})[0].macs == 24


def test_minus_one_is_an_open_axis() -> None:
    made = tiny_graphs.convolutional()
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert list(open_axes(made)) == ["x:0"]
    assert macs.counted(made, {})[0].macs == macs.counted(tiny_graphs.convolutional(), {})[0].macs
