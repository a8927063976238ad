"""Normalizations that a graph spells out: found by what they compute, whichever operators it is written with.

    x ─> [minus its mean] ─> squares ─> mean or sum ─> [+ eps] ─> root ─> x divided by it ─> [* gain] ─> [+ bias]

The root may be Sqrt, a power of 0.5 or -0.5, or within a ReduceL2; dividing may be Div, or Reciprocal and Mul.
LayerNorm, RMSNorm, group and instance norms and F.normalize are all of this kind.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper, numpy_helper

_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "GlobalAveragePool")
_UP = ("Add", "Sub", "Mul", "Div", "Max", "Clip", "Cast", "Identity", "Relu", "Reshape", "Abs")
_DOWN = ("Add", "Max", "Clip", "Reciprocal", "Expand", "Cast", "Identity", "Reshape", "Unsqueeze")
_SQUARES = ("Pow", "Mul", "Sub", "Cast", "Abs")
_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast", "Dropout")
_AFFINE = ("Mul", "Add")
_LONGEST = 8  # nodes from a reduction to its root, or from there to the division


@dataclass(frozen=True)
class Norm:
    """The names of its nodes, the axes that it reduces (None where they are not constant), and what it makes."""

    nodes: frozenset[str]
    axes: tuple[int, ...] | None
    output: str


def nodes_of_norms(graph: onnx.GraphProto) -> set[str]:
    """The names of all nodes inside the norms of ``graph``."""
    return {name for norm in norms_of(graph) for name in norm.nodes}


def normalizes_layers(graph: onnx.GraphProto) -> bool:
    """Whether a norm over the channels of each position feeds a layer of constant weights, as in a transformer."""
    links = _Links(graph)
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    for norm in norms_of(graph):
        last = {-1, ranks.get(norm.output, 0) - 1}
        if norm.axes is None or (len(norm.axes) == 1 and norm.axes[0] in last):
            feeds = links.feeds_layer(norm.output, ("MatMul", "Gemm"), through=(*_MOVES, *_AFFINE))
        else:
            feeds = norm.axes == (1,) and links.feeds_layer(norm.output, ("Conv",), through=("Transpose", *_AFFINE))
        if feeds:
            return True
    return False


def norms_of(graph: onnx.GraphProto) -> Iterator[Norm]:
    """Every norm in ``graph``."""
    links = _Links(graph)
    for root in graph.node:
        if not links.is_root(root):
            continue
        above, reductions = links.above(root)
        below, ends = links.below(root)
        for end in ends if reductions else ():
            output, affine = links.affine(end)
            yield Norm(frozenset({*above, *below, *affine}), links.axes_of(reductions[0]), output)


class _Links:
    """Who makes and reads each tensor of a graph, and what its constants hold."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            value = next((item.t for item in node.attribute if item.name == "value" and item.HasField("t")), None)
            if node.op_type == "Constant" and value is not None:
                self.constants[node.output[0]] = value

    def is_root(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Pow" and len(node.input) > 1:
            return abs(self.number(node.input[1]) or 0.0) == 0.5
        return node.op_type in ("Sqrt", "ReduceL2")

    def number(self, name: str) -> float | None:
        """The value of a constant of one element."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            return None
        return float(numpy_helper.to_array(tensor).reshape(-1)[0]) if math.prod(tensor.dims) == 1 else None

    def above(self, root: onnx.NodeProto) -> tuple[set[str], list[onnx.NodeProto]]:
        """The nodes from ``root`` up to what it normalizes by, and the reductions among them; the root itself too."""
        names, reductions = {root.name}, [root] if root.op_type == "ReduceL2" else []
        pending, seen = [] if reductions else [(root.input[0], 0)], set[str]()  # nodes need not have names
        while pending:
            tensor, depth = pending.pop()
            node = self.makers.get(tensor)
            if node is None or depth > _LONGEST or tensor in seen:
                continue
            seen.add(tensor)
            if node.op_type in _REDUCTIONS:
                names.add(node.name)
                reductions.append(node)
                names |= self._squares(node.input[0])
            elif node.op_type in _UP:
                names.add(node.name)
                pending += [(name, depth + 1) for name in node.input if name not in self.constants]
        return names, reductions

    def _squares(self, tensor: str) -> set[str]:
        """What squares and centres before a reduction, and the mean that it centres by."""
        node = self.makers.get(tensor)
        if node is None or node.op_type not in _SQUARES:
            return set()
        if node.op_type == "Mul" and node.input[0] != node.input[1]:
            return set()
        names = {node.name}
        for name in dict.fromkeys(node.input):
            maker = self.makers.get(name)
            if maker is not None and maker.op_type in ("ReduceMean", "Sub"):
                names |= {maker.name} if maker.op_type == "ReduceMean" else self._squares(name)
        return names

    def below(self, root: onnx.NodeProto) -> tuple[set[str], list[onnx.NodeProto]]:
        """The nodes from ``root`` down to what is divided by it, and those that divide."""
        names: set[str] = set()
        ends: list[onnx.NodeProto] = []
        inverse = root.op_type == "Pow" and (self.number(root.input[1]) or 0.0) < 0
        pending = [(root.output[0], inverse, 0)]
        while pending:
            tensor, inverse, depth = pending.pop()
            for node in self.readers.get(tensor, []) if depth <= _LONGEST else ():
                divides = node.op_type == "Div" and tensor in node.input[1:2] and not inverse
                if divides and node.input[0] in self.constants:  # 1 / root
                    names.add(node.name)
                    pending.append((node.output[0], True, depth + 1))
                elif divides or (node.op_type == "Mul" and inverse):
                    names.add(node.name)
                    ends.append(node)
                elif node.op_type in _DOWN:
                    names.add(node.name)
                    pending.append((node.output[0], inverse != (node.op_type == "Reciprocal"), depth + 1))
        return (names, ends) if ends else (set(), [])

    def affine(self, end: onnx.NodeProto) -> tuple[str, set[str]]:
        """What a gain and a bias make of the output of ``end``, and the names of their nodes."""
        tensor, names = end.output[0], set[str]()
        for operator in _AFFINE:
            readers = self.readers.get(tensor, [])
            if len(readers) != 1 or readers[0].op_type != operator:
                continue
            if any(name in self.constants for name in readers[0].input):
                names.add(readers[0].name)
                tensor = readers[0].output[0]
        return tensor, names

    def axes_of(self, reduction: onnx.NodeProto) -> tuple[int, ...] | None:
        given = next((helper.get_attribute_value(item) for item in reduction.attribute if item.name == "axes"), None)
        if given is None and len(reduction.input) > 1 and reduction.input[1] in self.constants:
            given = numpy_helper.to_array(self.constants[reduction.input[1]]).reshape(-1).tolist()
        return None if given is None else tuple(int(axis) for axis in given)

    def feeds_layer(self, tensor: str, operators: tuple[str, ...], *, through: tuple[str, ...]) -> bool:
        """Whether one of ``operators`` with a constant weight reads ``tensor``, behind nodes of ``through``."""
        pending, seen = [tensor], set[str]()
        while pending:
            name = pending.pop()
            for node in self.readers.get(name, []) if name not in seen else ():
                if node.op_type in operators and any(other in self.constants for other in node.input[:2]):
                    return True
                constant = any(other in self.constants for other in node.input)
                if node.op_type in through and (node.op_type not in _AFFINE or constant):
                    pending += node.output
            seen.add(name)
        return False
