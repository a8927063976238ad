"""Weights inside the branches of If and the bodies of Loop and Scan: stored in half precision, computed with in fp32.

Nobody measures what the numbers in there reach, so the arithmetic stays what it is; the Cast behind each weight is
folded when a session opens.
"""

from collections.abc import Callable, Collection

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters.element_types import inner_graphs
from exporters.large_weights import array_of, turn

_MIN_ELEMENTS = 64  # below, the Cast takes about as many bytes as the smaller weight saves
_SUFFIX = ".stored"


def store_weights(graph: onnx.GraphProto, *, kept: Collection[str], fits: Callable[[TensorProto], bool]) -> None:
    """Store in fp16 the weights of the graphs inside ``graph`` that ``fits`` takes and no node in ``kept`` reads."""
    for node in graph.node:
        for inner in inner_graphs(node):
            _store(inner, kept, fits)
            store_weights(inner, kept=kept, fits=fits)


def _store(graph: onnx.GraphProto, kept: Collection[str], fits: Callable[[TensorProto], bool]) -> None:
    held = {value.name for value in graph.input}
    held |= {name for node in graph.node if node.name in kept for name in node.input}
    casts: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in held or np.prod(tensor.dims) < _MIN_ELEMENTS:
            continue
        if not fits(tensor):
            continue
        name = tensor.name
        turn(tensor, array_of(tensor).astype(np.float16), name + _SUFFIX)
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
