"""The constants of a model: how many, of which types, which are parameters of the network."""

from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto

from exporters.tensors import all_tensors, bytes_of, elements_of
from toolchain.inspection.integer_operators import INTEGER_OPERATORS
from toolchain.inspection.nodes import ONNX_DOMAINS, all_nodes, name_of, number
from toolchain.inspection.record import OfKind, Stored

_LARGEST = 10
_NUMBERS = ("FLOAT", "DOUBLE", "BFLOAT16")
_ROUNDED = ("INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2")
_SCALES: Mapping[str, tuple[int, ...]] = {
    "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "QAttention": (3, 4, 6, 7),
    **{name: each.scales for name, each in INTEGER_OPERATORS.items()},
}  # fmt: skip
"""Inputs that say how others were rounded, and are no parameters."""
_ROUNDED_INPUTS: Mapping[str, tuple[int, ...]] = {
    "DequantizeLinear": (0,), **{name: each.bias for name, each in INTEGER_OPERATORS.items()},
}  # fmt: skip
"""Inputs that are parameters although they look like whole numbers."""
_WEIGHED: Mapping[str, tuple[int, ...]] = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "MatMul": (1,), "PRelu": (1,),
    "BatchNormalization": (1, 2, 3, 4), "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2),
    **{name: each.reads[1:] for name, each in INTEGER_OPERATORS.items() if each.rounded_bias},
}  # fmt: skip
_PACKED_TYPES = ("INT4", "UINT4", "INT2", "UINT2")
"""Types whose shapes count each value, and not the bytes that they share."""


def kind_of(tensor: TensorProto) -> str:
    """``float32``, ``int4``, ``float8e4m3fn``."""
    if tensor.data_type not in TensorProto.DataType.values():
        return f"type {tensor.data_type}"
    name = TensorProto.DataType.Name(tensor.data_type).lower()
    return str({"float": "float32", "double": "float64"}.get(name, name))


def stored(tensor: TensorProto) -> Stored:
    """One constant, its values unread."""
    size = bytes_of(tensor)
    if size is None:
        size = sum(map(len, tensor.string_data)) or len(tensor.raw_data)
    return Stored(
        name=tensor.name or "(unnamed)", kind=kind_of(tensor), shape=tuple(tensor.dims),
        elements=elements_of(tensor), size_bytes=size,
    )  # fmt: skip


def by_kind(model: onnx.ModelProto) -> tuple[OfKind, ...]:
    """The constants of each type together, those that take most first."""
    found: dict[str, list[Stored]] = {}
    for each in map(stored, all_tensors(model)):
        found.setdefault(each.kind, []).append(each)
    kinds = (
        OfKind(
            kind=kind, constants=len(each), elements=sum(one.elements for one in each),
            size_bytes=sum(one.size_bytes for one in each),
        )
        for kind, each in found.items()
    )  # fmt: skip
    return tuple(sorted(kinds, key=lambda each: -each.size_bytes))


def largest(model: onnx.ModelProto, most: int = _LARGEST) -> tuple[Stored, ...]:
    """The constants that take most bytes."""
    found = [stored(tensor) for _, tensor in _named(model)]
    return tuple(sorted(found, key=lambda each: -each.size_bytes)[:most])


def parameters(model: onnx.ModelProto) -> dict[str, int]:
    """The name of each constant that is a parameter, and how many numbers it stands for.

    Those are the constants of floats with more than one value, and what is stored in 8 bits or fewer; not the scales
    and zero points that go with it, nor shapes and other whole numbers.
    """
    about, rounded = _about_rounding(model)
    about |= set(_integer_scales(model))
    packed, weights = dict(_packed(model)), _weights(model)
    found: dict[str, int] = {}
    for inside, tensor in _named(model):
        kind, count = TensorProto.DataType.Name(tensor.data_type), elements_of(tensor)
        is_number = kind in _NUMBERS or kind.startswith("FLOAT")
        if tensor.name in about or (count < 2 and tensor.name not in weights):
            continue
        name = " / ".join((*inside, tensor.name)) if tensor.name in found else tensor.name
        if tensor.name in packed and kind not in _PACKED_TYPES:
            found[name] = packed[tensor.name] or count * 2
        elif is_number or kind in _ROUNDED or tensor.name in rounded:
            found[name] = count
    return found


def _named(model: onnx.ModelProto) -> Iterator[tuple[tuple[str, ...], TensorProto]]:
    """(The nodes around it, a constant under the name by which nodes read it)."""
    for tensor in model.graph.initializer:
        yield (), tensor
    for sparse in model.graph.sparse_initializer:
        yield (), sparse.values
    for placed in all_nodes(model):
        for each in placed.node.attribute:
            if each.HasField("t") and placed.node.op_type == "Constant" and placed.node.output:
                copy = TensorProto(name=placed.node.output[0], data_type=each.t.data_type, dims=each.t.dims)
                copy.data_location = TensorProto.EXTERNAL  # without its values
                yield placed.inside, each.t if each.t.data_type == TensorProto.STRING else copy
            for graph in (*([each.g] if each.HasField("g") else []), *each.graphs):
                for tensor in graph.initializer:
                    yield (*placed.inside, name_of(placed.node), each.name), tensor


def _about_rounding(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """(Scales and zero points, what is dequantized)."""
    about: set[str] = set()
    rounded: set[str] = set()
    for placed in all_nodes(model):
        node = placed.node
        about.update(node.input[index] for index in _SCALES.get(node.op_type, ()) if index < len(node.input))
        rounded.update(node.input[index] for index in _ROUNDED_INPUTS.get(node.op_type, ()) if index < len(node.input))
    return about, rounded


def _weights(model: onnx.ModelProto) -> set[str]:
    """What products, convolutions and norms read as weight or bias, be it one value; behind a DequantizeLinear too."""
    found: set[str] = set()
    nodes = [placed.node for placed in all_nodes(model)]
    for node in nodes:
        found.update(node.input[index] for index in _WEIGHED.get(node.op_type, ()) if index < len(node.input))
    for node in nodes:
        if node.op_type in ("DequantizeLinear", "Cast") and node.input and found & set(node.output):
            found.add(node.input[0])
    return found - {""}


def _integer_scales(model: onnx.ModelProto) -> Iterator[str]:
    """What the result of an integer product, or the scale of its input, is multiplied by to be in float."""
    products: set[str] = set()
    scales: set[str] = set()
    for placed in all_nodes(model):
        node = placed.node
        read = set(node.input)
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            products.update(node.output)
        elif node.op_type == "DynamicQuantizeLinear":
            scales.update(node.output[1:2])
        elif node.op_type == "Cast" and read & products:
            products.update(node.output)
        elif node.op_type == "Mul" and read & scales:
            yield from read - scales - products
            (products if read & products else scales).update(node.output)
        elif node.op_type == "Mul" and read & products:
            yield from read - products


def _packed(model: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    """Weights of which several lie in one byte, and how many they are; 0 for two in each."""
    for placed in all_nodes(model):
        node = placed.node
        if node.op_type == "MatMulNBits" and node.domain not in ONNX_DOMAINS and len(node.input) > 1:
            yield node.input[1], number(node, "N", 0) * number(node, "K", 0)
        if node.op_type == "GatherBlockQuantized" and node.input and number(node, "bits", 4) == 4:
            yield node.input[0], 0
