"""Small valid models to break, each with samples: what nets are made of, a few nodes of it each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
_SAMPLES = 16


@dataclass(frozen=True)
class Base:
    model: onnx.ModelProto
    samples: dict[str, Array]


class _Graph:
    """Collects nodes and weights; every weight is drawn from one generator."""

    def __init__(self, opset: int = 17) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.draw, self.opset = np.random.default_rng(0), opset

    def weight(self, name: str, *shape: int) -> str:
        array = self.draw.normal(size=shape) / np.sqrt(max(int(np.prod(shape[1:])), 1))
        return self.constant(name, array.astype(np.float32))

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], f"n_{output}", **attributes))
        return output

    def made(self, shape: list[int | str], output: str, *, integers: int = 0) -> Base:
        """One input ``x``, of floats or of integers below ``integers``, and its samples."""
        kind = TensorProto.INT64 if integers else TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.weights,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        size = (_SAMPLES, *(dim if isinstance(dim, int) else 8 for dim in shape[1:]))
        values = self.draw.integers(0, integers, size) if integers else self.draw.normal(size=size).astype(np.float32)
        return Base(model, {"x": values})


def _convolutions() -> Base:
    graph = _Graph()
    graph.node("Conv", ["x", graph.weight("w1", 16, 3, 3, 3), graph.weight("b1", 16)], "c1", pads=[1, 1, 1, 1])
    graph.node("Relu", ["c1"], "r1")
    graph.node("Conv", ["r1", graph.weight("w2", 16, 1, 3, 3)], "c2", pads=[1, 1, 1, 1], group=16)
    graph.node("Add", ["c2", "r1"], "sum")
    graph.node("MaxPool", ["sum"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    graph.node("GlobalAveragePool", ["pool"], "mean")
    graph.node("Flatten", ["mean"], "flat")
    graph.node("Gemm", ["flat", graph.weight("w3", 5, 16), graph.weight("b3", 5)], "y", transB=1)
    return graph.made(["N", 3, 8, 8], "y")


def _products() -> Base:
    graph = _Graph()
    graph.node("MatMul", ["x", graph.weight("w1", 32, 64)], "a")
    graph.node("Add", ["a", graph.weight("b1", 64)], "b")
    graph.node("Sigmoid", ["b"], "s")
    graph.node("Mul", ["b", "s"], "silu")
    graph.node("Concat", ["silu", "x"], "both", axis=1)
    graph.node("MatMul", ["both", graph.weight("w2", 96, 8)], "c")
    graph.node("Softmax", ["c"], "y", axis=-1)
    return graph.made(["N", 32], "y")


def _attention() -> Base:
    graph = _Graph()
    graph.node("Gather", [graph.weight("table", 40, 32), "x"], "embedded", axis=0)
    for name in ("q", "k", "v"):
        graph.node("MatMul", ["embedded", graph.weight(f"w_{name}", 32, 32)], name)
    graph.node("Transpose", ["k"], "kt", perm=[0, 2, 1])
    graph.node("MatMul", ["q", "kt"], "scores")
    graph.node("Softmax", ["scores"], "weights", axis=-1)
    graph.node("MatMul", ["weights", "v"], "mixed")
    graph.node("LayerNormalization", ["mixed", graph.weight("scale", 32), graph.weight("shift", 32)], "normal", axis=-1)
    graph.node("MatMul", ["normal", graph.weight("w_out", 32, 8)], "y")
    return graph.made(["N", "T"], "y", integers=40)


def _recurrent() -> Base:
    graph = _Graph()
    graph.node("Transpose", ["x"], "time_first", perm=[1, 0, 2])
    inputs = ["time_first", graph.weight("w", 1, 64, 8), graph.weight("r", 1, 64, 16)]
    graph.node("LSTM", inputs, "states", hidden_size=16)
    graph.node("Squeeze", ["states", graph.constant("axis", np.array([1]))], "h")
    graph.node("Transpose", ["h"], "batch_first", perm=[1, 0, 2])
    graph.node("MatMul", ["batch_first", graph.weight("w_out", 16, 4)], "y")
    return graph.made(["N", 6, 8], "y")


def _branches() -> Base:
    graph = _Graph()
    graph.node("MatMul", ["x", graph.weight("w1", 16, 32)], "a")
    graph.node("ReduceMax", ["x"], "largest", keepdims=0)
    graph.node("Greater", ["largest", graph.constant("two", np.float32(2))], "large")
    branches = {
        f"{which}_branch": helper.make_graph(
            [
                helper.make_node("MatMul", ["a", f"w_{which}"], [f"p_{which}"]),
                helper.make_node(operator, [f"p_{which}"], [which]),
            ],
            which,
            [],
            [helper.make_tensor_value_info(which, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(graph.draw.normal(size=(32, 32)).astype(np.float32), f"w_{which}")],
        )
        for which, operator in (("then", "Relu"), ("else", "Tanh"))
    }
    graph.node("If", ["large"], "chosen", **branches)
    graph.node("MatMul", ["chosen", graph.weight("w2", 32, 4)], "y")
    return graph.made(["N", 16], "y")


def _upsampling() -> Base:
    graph = _Graph()
    graph.node("Conv", ["x", graph.weight("w1", 8, 3, 3, 3)], "c", pads=[1, 1, 1, 1], strides=[2, 2])
    graph.node("BatchNormalization", ["c", *(graph.constant(k, np.ones(8, np.float32)) for k in "sbmv")], "bn")
    graph.node("Clip", ["bn", graph.constant("low", np.float32(0)), graph.constant("high", np.float32(6))], "clip")
    graph.node(
        "Resize", ["clip", "", graph.constant("scales", np.array([1, 1, 2, 2], np.float32))], "up", mode="nearest"
    )
    graph.node("ConvTranspose", ["up", graph.weight("w2", 8, 2, 2, 2)], "t", strides=[2, 2])
    graph.node(
        "Slice", ["t", *(graph.constant(k, np.array([v])) for k, v in (("from", 0), ("to", 9), ("along", 2)))], "y"
    )
    return graph.made(["N", 3, 8, 8], "y")


BASES: dict[str, Callable[[], Base]] = {
    "convolutions": _convolutions,
    "products": _products,
    "attention": _attention,
    "recurrent": _recurrent,
    "branches": _branches,
    "upsampling": _upsampling,
}
