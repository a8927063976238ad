"""Norms are found however they are spelled, and nothing else is."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import norms

node = helper.make_node
CONSTANTS = {
    "two": np.array(2.0), "eps": np.array(1e-5), "half": np.array(0.5), "minus_half": np.array(-0.5),
    "one": np.array(1.0), "count": np.array(16.0), "gain": np.ones(16), "bias": np.ones(16), "w": np.ones((16, 8)),
}  # fmt: skip
CENTRED = [node("ReduceMean", ["x"], ["m"], "mean", axes=[-1]), node("Sub", ["x", "m"], ["d"], "centre")]
AFFINE = [node("Mul", ["n", "gain"], ["g"], "gain"), node("Add", ["g", "bias"], ["h"], "bias")]
WRITTEN = {
    "LayerNorm": [
        *CENTRED, node("Pow", ["d", "two"], ["s"], "square"), node("ReduceMean", ["s"], ["v"], "variance", axes=[-1]),
        node("Add", ["v", "eps"], ["e"], "guard"), node("Sqrt", ["e"], ["q"], "root"),
        node("Div", ["d", "q"], ["n"], "div"),
    ],
    "RMSNorm by Reciprocal": [
        node("Mul", ["x", "x"], ["s"], "square"), node("ReduceMean", ["s"], ["v"], "variance", axes=[-1]),
        node("Add", ["v", "eps"], ["e"], "guard"), node("Sqrt", ["e"], ["q"], "root"),
        node("Reciprocal", ["q"], ["r"], "inverse"), node("Mul", ["x", "r"], ["n"], "times"),
    ],
    "RMSNorm by 1 / root": [
        node("Pow", ["x", "two"], ["s"], "square"), node("ReduceMean", ["s"], ["v"], "variance", axes=[-1]),
        node("Add", ["v", "eps"], ["e"], "guard"), node("Sqrt", ["e"], ["q"], "root"),
        node("Div", ["one", "q"], ["r"], "inverse"), node("Mul", ["x", "r"], ["n"], "times"),
    ],
    "RMSNorm by a power": [
        node("Pow", ["x", "two"], ["s"], "square"), node("ReduceMean", ["s"], ["v"], "variance", axes=[-1]),
        node("Add", ["v", "eps"], ["e"], "guard"), node("Pow", ["e", "minus_half"], ["r"], "root"),
        node("Mul", ["r", "x"], ["n"], "times"),
    ],
    "a sum over a count": [
        node("ReduceSumSquare", ["x"], ["t"], "sum", axes=[-1]), node("Div", ["t", "count"], ["v"], "mean"),
        node("Pow", ["v", "half"], ["q"], "root"), node("Div", ["x", "q"], ["n"], "div"),
    ],
    "normalize": [
        node("ReduceL2", ["x"], ["l"], "length", axes=[-1]), node("Clip", ["l", "eps"], ["c"], "clip"),
        node("Expand", ["c", "shape"], ["q"], "expand"), node("Div", ["x", "q"], ["n"], "div"),
    ],
}  # fmt: skip


def graph(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in CONSTANTS.items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16]) for name in ("x", "h")]
    return helper.make_graph(nodes, "g", values[:1], values[1:], tensors)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_node_of_a_norm_is_found(name: str) -> None:
    found = graph([*WRITTEN[name], *AFFINE])
    assert norms.nodes_of_norms(found) == {each.name for each in found.node}
    assert not norms.normalizes_layers(found)


@pytest.mark.parametrize("name", WRITTEN)
def test_before_a_layer_it_makes_a_transformer(name: str) -> None:
    assert norms.normalizes_layers(graph([*WRITTEN[name], *AFFINE, node("MatMul", ["h", "w"], ["y"], "layer")]))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Sqrt", ["x"], ["q"], "root"), node("Div", ["x", "q"], ["h"], "div")],
        [node("ReduceMean", ["x"], ["v"], "mean"), node("Sqrt", ["v"], ["h"], "root")],
        [node("ReduceMean", ["x"], ["v"], "mean"), node("Div", ["x", "v"], ["h"], "div")],
    ],
    ids=["a root of no reduction", "a root that divides nothing", "a mean without a root"],
)
def test_what_is_no_norm_is_none(nodes: list[onnx.NodeProto]) -> None:
    assert not norms.nodes_of_norms(graph(nodes))
