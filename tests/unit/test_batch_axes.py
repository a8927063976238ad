"""Which axis counts samples, read off graphs of every kind."""

from collections.abc import Sequence

import onnx
import pytest
from onnx import TensorProto, helper

from exporters.batch_axes import BatchAxes

Shape = Sequence[int | str | None] | None


def model_of(
    inputs: dict[str, Shape], outputs: dict[str, Shape], nodes: Sequence[onnx.NodeProto] = ()
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Identity", [next(iter(inputs))], [next(iter(outputs))])],
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("inputs", "outputs", "axes", "found", "fixed"),
    [
        ({"x": ["N", 16]}, {"y": ["N", 8]}, [0], [0], None),
        ({"x": ["batch", 6, 16], "pos": [6, 16]}, {"y": ["batch", 6, 8]}, [0, None], [0], None),
        ({"x": ["N", 16], "t": []}, {"y": ["N", 8]}, [0, None], [0], None),
        ({"x": ["N", 3, 8, 8], "k": [8, 3, 3, 3]}, {"y": ["N", 8, 4, 4]}, [0, None], [0], None),
        ({"ids": ["B", "S"], "past": ["B", 2, "P", 16]}, {"y": ["B", "S", 9]}, [0, 0], [0], None),
        ({"x": ["N", "T", 8], "h0": [2, "N", 12]}, {"y": ["N", "T", 12], "h": [2, "N", 12]}, [0, 1], [0, 1], None),
        ({"x": ["T", "N", 8]}, {"y": ["T", "N", 4]}, [1], [1], None),
        ({"x": ["time", "batch_size", 8]}, {"y": ["batch_size", 4]}, [1], [0], None),
        ({"x": ["s0", 16]}, {"y": ["s0", 8]}, [0], [0], None),
        ({"x": ["T", 80]}, {"y": ["T", 10]}, [0], [0], None),
        ({"x": ["T", 80]}, {"y": [1, 10]}, [None], [None], None),
        ({"x": ["height", "width", 3]}, {"boxes": ["K", 4]}, [None], [None], None),
        ({"x": [None, 16]}, {"y": [None, 16]}, [0], [0], None),
        ({"x": [-1, 3, "?", "?"]}, {"y": [-1, 2]}, [0], [0], None),
        ({"x": ["N", 16]}, {"y": []}, [0], [None], None),
        ({"x": [8, 16]}, {"y": [8, 4]}, [0], [0], 8),
        ({"x": [1, 3, 16, 16]}, {"boxes": ["K", 4], "scores": [1, 9]}, [0], [None, 0], 1),
        ({"x": [1, 3, "H", "W"]}, {"y": [1, 10]}, [0], [0], 1),
        ({"ids": [1, "S"], "mask": ["S", "S"]}, {"y": [1, "S", 4]}, [0, None], [0], 1),
        ({"x": [1, 16], "h": [2, 1, 8]}, {"y": [1, 8]}, [0, None], [0], 1),
        ({"x": [16]}, {"y": [8]}, [None], [None], None),
        ({"points": [1024, 3]}, {"y": [1, 10]}, [None], [None], None),
        ({"x": []}, {"y": []}, [None], [None], None),
    ],
)  # fmt: skip
def test_batch_axes_follow_names_then_lengths(
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    axes: list[int | None],
    found: list[int | None],
    fixed: int | None,
) -> None:
    result = BatchAxes.of(model_of(inputs, outputs))
    assert list(result.inputs.values()) == axes
    assert list(result.outputs.values()) == found
    assert result.fixed == fixed


def test_outputs_that_do_not_say_are_inferred() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0]),
        helper.make_node("NonZero", ["x"], ["z"]),
        helper.make_node("Flatten", ["x"], ["f"], axis=0),
    ]
    result = BatchAxes.of(model_of({"x": ["N", 16]}, {"y": ["a", "b"], "z": ["c", "d"], "f": None}, nodes))
    assert dict(result.outputs) == {"y": 1, "z": None, "f": None}


def test_a_sequence_has_no_batch_axis() -> None:
    model = model_of({"x": ["N", 16]}, {"y": ["N", 16]})
    model.graph.node.append(helper.make_node("SequenceConstruct", ["x"], ["parts"]))
    model.graph.output.append(helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None))
    assert dict(BatchAxes.of(model).outputs) == {"y": 0, "parts": None}


def test_minus_one_is_an_open_axis() -> None:
    model = model_of({"x": [-1, 3, -1, -1]}, {"y": ["a", "b", "c", "d"]})
    result = BatchAxes.of(model)
    assert (result.shapes["x"], result.inputs["x"], result.fixed) == (("?", 3, "?", "?"), 0, None)
