"""Loops that can be seen never to end: nobody could run the model, and a session that tries cannot be stopped."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from exporters import skeleton
from exporters.errors import BadModelFile

_MOST_TURNS = 2**40  # a turn takes a microsecond at least, so these take twelve days


def refuse(model: onnx.ModelProto, source: object) -> None:
    """Raise BadModelFile for a Loop without a limit on its turns whose condition, given as true, stays what it was."""
    graphs = list(skeleton.graphs_of(model.graph))
    known = dict(_constants(graphs))
    for node in (node for graph in graphs for node in graph.node if node.op_type == "Loop" and len(node.input) >= 2):
        turns, condition = node.input[:2]
        body = next((attribute.g for attribute in node.attribute if attribute.name == "body"), None)
        if body is None or not _endless(turns, known, _MOST_TURNS) or not _endless(condition, known, 1):
            continue
        if len(body.input) >= 2 and body.output and _stays(body, known):
            raise BadModelFile(
                f"The Loop '{node.name or node.output[0]}' in {source} never ends: nothing changes its condition.",
                "Export it again, with a limit on its turns.",
            )


def _constants(graphs: list[onnx.GraphProto]) -> Iterator[tuple[str, int]]:
    """Single numbers and truths by name."""
    for graph in graphs:
        for tensor in graph.initializer:
            yield from _single(tensor.name, tensor)
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                yield from _single(node.output[0], node.attribute[0].t)


def _single(name: str, tensor: onnx.TensorProto) -> Iterator[tuple[str, int]]:
    whole = tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    if whole and int(np.prod(tensor.dims, dtype=object)) == 1 and not tensor.external_data:
        yield name, int(numpy_helper.to_array(tensor).reshape(()))


def _endless(name: str, known: dict[str, int], least: int) -> bool:
    return not name or known.get(name, 0) >= least


def _stays(body: onnx.GraphProto, known: dict[str, int]) -> bool:
    """Whether the condition that ``body`` gives is the one that it got, or true whatever comes."""
    makers = {name: node for node in body.node for name in node.output}
    name = body.output[0].name
    while (node := makers.get(name)) is not None and node.op_type == "Identity" and node.input:
        name = node.input[0]
    return name == body.input[1].name or known.get(name) == 1
