"""Which tensors of a graph static int8 needs ranges of, and from which of them the others' follow."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from exporters import onnx_file
from exporters.large_weights import array_of

# Their output takes the scale of their input in a QDQ graph.
_SAME_SCALE = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"}
# The same where they are int8 themselves: in float they may choose few of the values.
_CHOOSING = {"MaxPool", "Slice", "Gather"}
_BOUNDED = {"Softmax", "Sigmoid"}  # from 0 to 1, whatever comes in


@dataclass(frozen=True)
class Taps:
    """``measured`` tensors are looked at; ``same_as`` gives the others' range by the name of a measured one.

    ``bounded`` tensors lie in [0, 1]. On ResNet-18 31 tensors are measured instead of 49.
    """

    measured: tuple[str, ...]
    same_as: dict[str, str]
    bounded: tuple[str, ...]


def of(model: onnx.ModelProto, in_float: Collection[str] = ()) -> Taps:
    """The taps of ``model``, whose shapes and types are inferred; what only nodes ``in_float`` see needs no range."""
    graph = model.graph
    constants = constants_of(graph)
    floats = float_tensors(model)
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in (*node.input, *onnx_file.outer_reads(node)):
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
        elif node.input and node.input[0] in floats and _keeps_scale(node, in_float):
            parent[made] = node.input[0]
        else:
            users = consumers.get(made, [])
            if (
                len(users) == 1
                and users[0].name not in in_float
                and merges(users[0], constants)
                and made not in outputs
            ):
                parent[made] = users[0].output[0]
    rounded = [node for node in graph.node if node.name not in in_float or _keeps_scale(node, in_float)]
    used = [name for node in rounded for name in (*node.input, *node.output) if name in floats]
    same_as = {name: _root(name, parent) for name in parent}
    measured = [name for name in dict.fromkeys(used) if name not in same_as and name not in bounded]
    return Taps(tuple(measured), same_as, tuple(bounded))


def merges(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether ``node`` is a Relu or Clip that the rounding before it can do: a range that holds 0 has its bounds."""
    if node.op_type != "Clip":
        return node.op_type == "Relu"
    low, high = [*node.input[1:3], "", ""][:2]
    if any(name and name not in constants for name in (low, high)):
        return False  # bounds that are known when it runs
    above = low in constants and bool(array_of(constants[low]) > 0)
    below = high in constants and bool(array_of(constants[high]) < 0)
    return not (above or below)


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The graph's weights by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def _keeps_scale(node: onnx.NodeProto, in_float: Collection[str]) -> bool:
    return node.op_type in _SAME_SCALE or (node.op_type in _CHOOSING and node.name not in in_float)


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
