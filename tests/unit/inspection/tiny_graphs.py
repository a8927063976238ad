"""Models made in milliseconds for the tests of this folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Shape = Sequence[int | str]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape | None],
    weights: Mapping[str, Array],
    *,
    opset: int = 20,
    ir: int = 10,
    kind: int = TensorProto.FLOAT,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A graph of ``nodes``; inputs and outputs are of type ``kind``."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def drawn(*shape: int, seed: int = 0) -> Array:
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolutional(*, seed: int = 0) -> onnx.ModelProto:
    """Two convolutions with a Relu between them, a mean and a classifier, over a dynamic batch of 3x8x8 images."""
    nodes = [
        helper.make_node("Conv", ["x", "stem.weight", "stem.bias"], ["a"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("Conv", ["b", "body.weight"], ["c"], name="body", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flat"),
        helper.make_node("Gemm", ["e", "head.weight", "head.bias"], ["y"], name="head", transB=1),
    ]
    weights = {
        "stem.weight": drawn(8, 3, 3, 3, seed=seed), "stem.bias": drawn(8, seed=seed + 1),
        "body.weight": drawn(16, 8, 3, 3, seed=seed + 2),
        "head.weight": drawn(5, 16, seed=seed + 3), "head.bias": drawn(5, seed=seed + 4),
    }  # fmt: skip
    return model(nodes, {"x": ["batch", 3, 8, 8]}, {"y": ["batch", 5]}, weights)


def renamed(source: onnx.ModelProto, prefix: str = "new_") -> onnx.ModelProto:
    """The same with other names of nodes, weights and tensors inside; the interface stays."""
    made = onnx.ModelProto()
    made.CopyFrom(source)
    kept = {value.name for value in (*made.graph.input, *made.graph.output)}
    for node in made.graph.node:
        node.name = prefix + node.name
        node.input[:] = [name if name in kept or not name else prefix + name for name in node.input]
        node.output[:] = [name if name in kept or not name else prefix + name for name in node.output]
    for tensor in made.graph.initializer:
        tensor.name = prefix + tensor.name
    return made


def quantized(source: onnx.ModelProto) -> onnx.ModelProto:
    """``convolutional`` with Q/DQ pairs as ONNX Runtime's own quantizer puts them, at made-up scales."""
    made = onnx.ModelProto()
    made.CopyFrom(source)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    del made.graph.initializer[:]
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, values: Array) -> str:
        made.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def rounded(tensor: str, scale: float, zero: int) -> str:
        parts = [
            constant(f"{tensor}_scale", np.array(scale, np.float32)),
            constant(f"{tensor}_zero", np.array(zero, np.uint8)),
        ]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *parts], [f"{tensor}_q"], name=f"{tensor}_Q"))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{tensor}_q", *parts], [f"{tensor}_dq"], name=f"{tensor}_DQ")
        )
        return f"{tensor}_dq"

    def stored(name: str) -> str:
        values = weights[name]
        scale = np.asarray(np.abs(values).max() / 127, np.float32)
        parts = [
            constant(f"{name}_q", np.rint(values / scale).astype(np.int8)),
            constant(f"{name}_scale", scale),
            constant(f"{name}_zero", np.array(0, np.int8)),
        ]
        nodes.append(helper.make_node("DequantizeLinear", parts, [f"{name}_dq"], name=f"{name}_DQ"))
        return f"{name}_dq"

    constant("stem.bias", weights["stem.bias"])
    constant("head.bias", weights["head.bias"])
    x = rounded("x", 0.04, 128)
    nodes.append(helper.make_node("Conv", [x, stored("stem.weight"), "stem.bias"], ["a"], name="stem", pads=[1] * 4))
    a = rounded("a", 0.1, 0)  # whose end is the Relu's
    nodes.append(helper.make_node("Conv", [a, stored("body.weight")], ["c"], name="body", pads=[1] * 4))
    c = rounded("c", 1.0, 128)
    nodes.append(helper.make_node("GlobalAveragePool", [c], ["d"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["d"], ["e"], name="flat"))
    nodes.append(helper.make_node("Gemm", ["e", stored("head.weight"), "head.bias"], ["y"], name="head", transB=1))
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made
