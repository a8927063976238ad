"""The constants whose values shape inference reads: without them nobody knows the shapes of a model."""

from collections.abc import Iterator, Mapping

import onnx

from exporters import onnx_file
from exporters.large_weights import is_there
from exporters.skeleton import SMALL
from exporters.tensors import all_tensors, elements_of
from toolchain.inspection.nodes import all_nodes, constants_of

_READ: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,), "Resize": (1, 2, 3), "Upsample": (1,), "Expand": (1,), "Pad": (1, 3), "Slice": (1, 2, 3, 4),
    "Squeeze": (1,), "Unsqueeze": (1,), "Tile": (1, 2), "ConstantOfShape": (0,), "TopK": (1,), "Split": (1,),
    "Range": (0, 1, 2), "OneHot": (1,), "CenterCropPad": (1,), "AffineGrid": (1,), "Loop": (0,), "MaxUnpool": (2,),
    "BlackmanWindow": (0,), "HammingWindow": (0,), "HannWindow": (0,), "DFT": (1, 2), "STFT": (1, 3),
    "ReverseSequence": (1,), "Col2Im": (1, 2), "SplitToSequence": (1,),
}  # fmt: skip
"""Operator -> the inputs whose values, and not shapes alone, say what shape comes out; each Reduce* its axes too."""
_SHAPES_ALONE = {"Shape", "Size"}


def names_of(model: onnx.ModelProto) -> set[str]:
    """The small constants that such inputs are, or are computed from."""
    nodes = [placed.node for placed in all_nodes(model)]
    makers = {name: node for node in nodes for name in node.output if name}
    pending = [name for node in nodes for name in _read(node)]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name and name not in seen:
            seen.add(name)
            maker = makers.get(name)
            if maker is not None and maker.op_type not in _SHAPES_ALONE:
                pending += list(maker.input)
    return seen & set(_small(model))


def lost(model: onnx.ModelProto) -> set[str]:
    """Those of them that are not in the model."""
    return names_of(model) & {tensor.name for tensor in all_tensors(model) if not is_there(tensor)}


def _small(model: onnx.ModelProto) -> Iterator[str]:
    graphs = list(onnx_file.graphs_of(model))
    graphs += [onnx.GraphProto(node=function.node) for function in model.functions]
    for graph in graphs:
        yield from (name for name, tensor in constants_of(graph).items() if elements_of(tensor) <= SMALL)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    places = (1,) if node.op_type.startswith("Reduce") else _READ.get(node.op_type, ())
    return (node.input[place] for place in places if place < len(node.input))
