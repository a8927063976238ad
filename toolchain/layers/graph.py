"""A model file cut into layers, and which of them each executed node does."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from runtimes.ort_profile import CONVERSIONS, NodeTime

# Operators that move values without changing them. Concat is none of them: it brings its inputs under one scale.
_SHAPE_OPS = CONVERSIONS | {
    "Constant", "ConstantOfShape", "DepthToSpace", "Dropout", "Expand", "Flatten", "Identity", "Range", "Reshape",
    "Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
_INTEGER_OPS = {
    "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "QGemm", "QAttention", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits",
}  # fmt: skip
_HEAVY_OPS = _INTEGER_OPS | {
    "Conv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention",
    "Einsum",
}  # fmt: skip
_RECTIFIERS = {"Relu", "Clip"}
FLOAT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "tensor(bfloat16)": TensorProto.BFLOAT16,
    "float64": TensorProto.DOUBLE,
}
# What onnxruntime 1.31 adds to a tensor's name when it takes casts away, and to a node's when it changes its layout.
_ADDED_BEFORE = "InsertedPrecisionFreeCast_"
_ADDED_BEHIND = re.compile(r"(?:\d+_nekot_)+")  # read from the end: from the front it takes the square of the length


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One computing node and what belongs to it: the conversions before it, and the QuantizeLinear after it.

    ``name`` is what a quantizer's list of excluded nodes takes. ``output`` is the tensor that it is judged by,
    ``dtype`` that tensor's type, ``quantizer`` the QuantizeLinear that reads it, ``inputs`` the tensors at which the
    layer is cut off. ``nodes`` are positions in the graph, ``main`` that of the computing one. ``alone`` is false where
    the cut holds several heavy operators, or a subgraph: then no error is this layer's own.
    """

    name: str
    op_type: str
    output: str
    dtype: str
    nodes: tuple[int, ...]
    main: int
    quantizer: int | None
    inputs: tuple[str, ...]
    weight_bytes: int
    alone: bool


class Wiring:
    """Who makes and who reads each tensor of a model; ``active`` tensors depend on the model's inputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.model = model
        self.nodes: Sequence[onnx.NodeProto] = graph.node
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [value.name for value in graph.input if value.name not in self.constants]
        self.outputs = [value.name for value in graph.output]
        self.reads = [_inputs_of(node) for node in graph.node]
        self.made_by = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
        self.read_by: dict[str, list[int]] = {}
        self.quantizers: dict[str, int] = {}
        self.active = set(self.inputs)
        for index, node in enumerate(graph.node):
            for name in self.reads[index]:
                self.read_by.setdefault(name, []).append(index)
            if node.op_type == "QuantizeLinear":
                self.quantizers.setdefault(node.input[0], index)
            if self.active & set(self.reads[index]):
                self.active.update(name for name in node.output if name)

    def before(self, tensor: str, stops: Collection[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """(The nodes that ``tensor`` is computed by, back to ``stops``; the active tensors where that ends)."""
        pending, found, ends = [tensor], set(), set()
        while pending:
            name = pending.pop()
            maker = self.made_by.get(name)
            if name in stops or maker is None:
                ends.add(name)
            elif maker not in found:
                found.add(maker)
                pending.extend(self.reads[maker])
        return tuple(sorted(found)), tuple(sorted(ends & self.active))

    def is_rectified(self, tensor: str) -> bool:
        """Whether all that reads ``tensor``, conversions apart, is a Relu or Clip: what those cut off does no harm."""
        readers = self.read_by.get(tensor, [])
        return (
            bool(readers)
            and tensor not in self.outputs
            and all(
                self.nodes[index].op_type in _RECTIFIERS
                or (self.nodes[index].op_type in CONVERSIONS and self.is_rectified(self.nodes[index].output[0]))
                for index in readers
            )
        )

    def computed_by(self, tensor: str) -> onnx.NodeProto:
        """The node that makes ``tensor``, or what a Relu or Clip was given of it."""
        node = self.nodes[self.made_by[tensor]]
        while node.op_type in _RECTIFIERS and node.input[0] in self.made_by:
            node = self.nodes[self.made_by[node.input[0]]]
        return node

    def is_layer(self, index: int) -> bool:
        """Whether a node computes. Gather does where it looks weights up."""
        node = self.nodes[index]
        if node.op_type == "Gather":
            return node.input[0] not in self.active
        return node.op_type not in _SHAPE_OPS and any(name in self.active for name in node.output)


def layers_of(
    wiring: Wiring, *, anchors: Collection[str], types: Mapping[str, str], reference: Wiring | None = None
) -> list[Layer]:
    """Cut a model at ``anchors``, active tensors of the given ``types``; one layer for each that a float comes out of.

    A Relu or Clip belongs to the layer before it, as it does in the runtimes. ``reference`` gives the names of layers
    that a quantizer made several nodes of.
    """
    anchors = [name for name in anchors if not wiring.is_rectified(name)]
    layers: list[Layer] = []
    seen: set[int] = set()
    order = [name for name in wiring.made_by if name in set(anchors)]
    for name in order:
        if types.get(name) not in FLOAT_TYPES:
            continue
        stops = set(anchors) - {name}
        quantizer = wiring.quantizers.get(name)
        end = name if quantizer is None else wiring.nodes[quantizer].output[0]
        nodes, inputs = wiring.before(end, stops)
        computing = [index for index in nodes if wiring.is_layer(index) and index not in seen]
        heavy = [index for index in computing if wiring.nodes[index].op_type in _HEAVY_OPS]
        others = [index for index in computing if wiring.nodes[index].op_type not in _RECTIFIERS]
        alone = len(heavy) < 2 and not any(_has_subgraph(wiring.nodes[index]) for index in nodes)
        seen.update(nodes)
        for main in heavy or others[-1:] or computing[-1:]:
            source = wiring.nodes[main]
            if alone and source.op_type in _INTEGER_OPS and reference is not None and name in reference.made_by:
                source = reference.computed_by(name)
            layers.append(
                Layer(
                    name=source.name or name,
                    op_type=source.op_type,
                    output=name,
                    dtype=types[name],
                    nodes=nodes,
                    main=main,
                    quantizer=quantizer,
                    inputs=inputs,
                    weight_bytes=_constant_bytes(wiring, nodes),
                    alone=alone,
                )
            )
    return layers


def shared_tensors(quantized: Wiring, reference: Wiring) -> list[str]:
    """The tensors computed from the models' inputs that carry the same name in both files, in the first one's order."""
    common = (quantized.active & reference.active) - {*quantized.inputs, *reference.inputs}
    return [name for name in quantized.made_by if name in common]


def executed_by(wiring: Wiring, layers: Sequence[Layer], nodes: Sequence[NodeTime]) -> list[tuple[NodeTime, list[int]]]:
    """Each executed node that computes, with the positions in ``layers`` of those that it does, the heaviest first.

    Nodes that do a layer's main operator come before those that do another part of it, such as a Relu.
    """
    found = {node.name: origin_of(wiring, node) for node in nodes if node.op_type not in CONVERSIONS}
    origins = {name: origin for name, origin in found.items() if origin in wiring.made_by}
    by_main = {layer.main: position for position, layer in enumerate(layers)}
    owners = {index: position for position, layer in reversed(list(enumerate(layers))) for index in layer.nodes}
    mains: list[tuple[NodeTime, list[int]]] = []
    parts: list[tuple[NodeTime, list[int]]] = []
    for node in nodes:
        if node.name not in origins or node.op_type in _SHAPE_OPS:  # a change of layout has a computing node's origin
            continue
        origin = origins[node.name]
        merged, _ = wiring.before(origin, set(origins.values()) - {origin})
        if done := [by_main[index] for index in merged if index in by_main]:
            done.sort(key=lambda position: (layers[position].op_type not in _HEAVY_OPS, -layers[position].weight_bytes))
            mains.append((node, done))
        elif wiring.is_layer(maker := wiring.made_by[origin]) and maker in owners:
            parts.append((node, [owners[maker]]))
    return [*mains, *parts]


def origin_of(wiring: Wiring, node: NodeTime) -> str:
    """The tensor of the file that an executed node computes, before it is quantized; empty where none is known."""
    plain = _without_additions(node.name)
    outputs = [_without_additions(name) for name in node.outputs]
    found = next((name for name in (*outputs, plain.removesuffix("_nchwc")) if name in wiring.made_by), None)
    if found is None:
        named = next((own for own in wiring.nodes if own.name == plain and plain), None)
        return str(named.output[0]) if named is not None else ""
    maker = wiring.nodes[wiring.made_by[found]]
    return str(maker.input[0]) if maker.op_type == "QuantizeLinear" else found


def _inputs_of(node: onnx.NodeProto) -> list[str]:
    """The tensors that a node reads, those that its subgraphs take from around it included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            own = {name for inner in graph.node for name in inner.output} | {value.name for value in graph.input}
            own |= {tensor.name for tensor in graph.initializer}
            outer = [name for inner in graph.node for name in _inputs_of(inner)] + [each.name for each in graph.output]
            names.extend(name for name in outer if name not in own)
    return names


def _has_subgraph(node: onnx.NodeProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _constant_bytes(wiring: Wiring, nodes: Sequence[int]) -> int:
    """What the constants that ``nodes`` read take in the file, scales and zero points included."""
    names = {name for index in nodes for name in wiring.reads[index]}
    stored = [tensor for name, tensor in wiring.constants.items() if name in names]
    stored += [item.t for index in nodes for item in wiring.nodes[index].attribute if item.HasField("t")]
    return sum(_bytes_of(tensor) for tensor in stored)


def _bytes_of(tensor: TensorProto) -> int:
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _without_additions(name: str) -> str:
    """As it was before onnxruntime added to it."""
    plain = name.removeprefix(_ADDED_BEFORE)
    found = _ADDED_BEHIND.match(plain[::-1])
    return plain[: len(plain) - found.end()] if found else plain
