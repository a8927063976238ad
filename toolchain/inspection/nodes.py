"""Every node of a model, wherever it stands, and what it is called in sentences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from exporters import skeleton
from exporters.element_types import inner_graphs
from exporters.operators import attribute

CONTRIB = "com.microsoft"
ONNX_DOMAINS = ("", "ai.onnx", skeleton.FOREIGN)


@dataclass(frozen=True)
class Placed:
    """A node; ``inside`` are the nodes around its graph, or the function that it stands in, the outermost first."""

    node: onnx.NodeProto
    inside: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name, with those around it; without one its operator and what it makes."""
        return " / ".join((*self.inside, name_of(self.node)))


def name_of(node: onnx.NodeProto) -> str:
    """Its name, or else its operator and first output."""
    made = next((name for name in node.output if name), "nothing")
    return str(node.name) or f"{node.op_type} → {made}"


def operator_of(node: onnx.NodeProto) -> str:
    """``Conv``, or ``com.microsoft.QGemm``."""
    return str(node.op_type) if node.domain in ONNX_DOMAINS else f"{node.domain}.{node.op_type}"


def all_nodes(model: onnx.ModelProto) -> Iterator[Placed]:
    """Those of the main graph, each followed by those of the graphs inside it; then those of functions."""
    yield from nodes_of(model.graph)
    for function in model.functions:
        yield from of_function(function)


def of_function(function: onnx.FunctionProto) -> Iterator[Placed]:
    """Those of a local function, and of the graphs inside them."""
    for node in function.node:
        yield from _with_inner(Placed(node, (f"function {function.name}",)))


def nodes_of(graph: onnx.GraphProto, inside: tuple[str, ...] = ()) -> Iterator[Placed]:
    """Those of ``graph``, each followed by those of the graphs inside it."""
    for node in graph.node:
        yield from _with_inner(Placed(node, inside))


def _with_inner(placed: Placed) -> Iterator[Placed]:
    yield placed
    for graph in inner_graphs(placed.node):
        yield from nodes_of(graph, (*placed.inside, name_of(placed.node)))


def number(node: onnx.NodeProto, name: str, otherwise: int) -> int:
    """A whole number that an attribute gives."""
    value = attribute(node, name, otherwise)
    return value if isinstance(value, int) else otherwise


def constants_of(graph: onnx.GraphProto) -> Mapping[str, onnx.TensorProto]:
    """The weights of ``graph`` by name: initializers, and what its Constant nodes hold as a tensor."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ONNX_DOMAINS and node.output:
            held = next((each for each in node.attribute if each.name == "value"), None)
            if held is not None:
                found[node.output[0]] = held.t
    return found
