"""The types and shapes of a model's tensors, as far as it, ONNX and ONNX Runtime's definitions tell them."""

from collections.abc import Mapping

import onnx

from exporters.element_types import declared, tell
from exporters.operators import opsets_of
from exporters.skeleton import graphs_of, inferred
from toolchain.inspection.shapes import Shape, Shapes


def tensor_types(model: onnx.ModelProto) -> list[dict[str, str]]:
    """Tensor -> type (``tensor(float)``) in each graph of ``model``, in the order of :func:`skeleton.graphs_of`."""
    opsets = opsets_of(model)
    own, told = list(graphs_of(model.graph)), list(graphs_of(_told(model).graph))
    found = []
    for graph, twin in zip(own, told if len(told) == len(own) else own, strict=True):
        types = declared(twin) | declared(graph)
        for node in graph.node:
            tell(node, types, opsets)
        found.append(types)
    return found


def of_main_graph(model: onnx.ModelProto) -> tuple[Mapping[str, str], Shapes]:
    """(Types, shapes) of the tensors in the main graph."""
    return tensor_types(model)[0], Shapes(_told(model).graph)


def contradict(one: Shape | None, two: Shape | None) -> bool:
    """Whether two shapes cannot be the same."""
    if one is None or two is None:
        return False
    pairs = zip(one, two, strict=False)
    return len(one) != len(two) or any(a is not None and b is not None and a != b for a, b in pairs)


def _told(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return inferred(model)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return model
