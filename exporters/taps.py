"""Which tensors of a graph static int8 needs ranges of, and from which of them the others' follow."""

from collections.abc import Collection
from dataclasses import dataclass

import onnx
from onnx import TensorProto

# Their output takes the scale of their input in a QDQ graph.
_SAME_SCALE = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Slice", "Gather"}
# Merged into the operator before them: what the range of that operator's output is, theirs decides.
_MERGED = {"Relu", "Clip"}
_BOUNDED = {"Softmax", "Sigmoid"}  # from 0 to 1, whatever comes in


@dataclass(frozen=True)
class Taps:
    """``measured`` tensors are looked at; ``same_as`` gives the others' range by the name of a measured one.

    ``bounded`` tensors lie in [0, 1]. On ResNet-18 31 tensors are measured instead of 49.
    """

    measured: tuple[str, ...]
    same_as: dict[str, str]
    bounded: tuple[str, ...]


def of(model: onnx.ModelProto) -> Taps:
    """The taps of ``model``, whose shapes and types are inferred."""
    graph = model.graph
    floats = float_tensors(model)
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    parent: dict[str, str] = {}
    bounded: list[str] = []
    for node in graph.node:
        if not node.output or node.output[0] not in floats:
            continue
        made = node.output[0]
        if node.op_type in _BOUNDED:
            bounded.append(made)
        elif node.op_type in _SAME_SCALE and node.input[0] in floats:
            parent[made] = node.input[0]
        else:
            users = consumers.get(made, [])
            if len(users) == 1 and users[0].op_type in _MERGED and made not in outputs:
                parent[made] = users[0].output[0]
    used = [name for node in graph.node for name in (*node.input, *node.output) if name in floats]
    same_as = {name: _root(name, parent) for name in parent}
    measured = [name for name in dict.fromkeys(used) if name not in same_as and name not in bounded]
    return Taps(tuple(measured), same_as, tuple(bounded))


def float_tensors(model: onnx.ModelProto) -> Collection[str]:
    """The names of the fp32 activations: inputs, outputs and what lies between, weights apart."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    return {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in weights
    }


def _root(name: str, parent: dict[str, str]) -> str:
    while name in parent:
        name = parent[name]
    return name
