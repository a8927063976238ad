"""In which ways a file holds or computes numbers in fewer bits than fp32."""

from collections import Counter
from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto

from exporters.tensors import all_tensors
from toolchain.inspection.contents import kind_of
from toolchain.inspection.nodes import all_nodes, constants_of, number, operator_of
from toolchain.inspection.record import Format

_DYNAMIC = {
    "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM",
    "MatMulIntegerToFloat",
}  # fmt: skip
_N_BITS = {"MatMulNBits", "GatherBlockQuantized", "MatMulBnb4", "MatMulFpQ4", "QMoE"}
_OPERATORS = {"QGemm", "QAttention", "QOrderedMatMul", "QOrderedAttention"}
_SMALL_FLOATS = ("float16", "bfloat16", "float8", "float4", "float6")


def formats_of(model: onnx.ModelProto) -> tuple[Format, ...]:
    """None of them for a file in fp32."""
    return tuple(_found(model))


def _found(model: onnx.ModelProto) -> Iterator[Format]:
    nodes = [placed.node for placed in all_nodes(model)]
    operators = Counter(operator_of(node) for node in nodes)
    constants = dict(constants_of(model.graph))
    pairs = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if pairs:
        yield Format(name="QDQ", detail=_pairs(pairs, constants))
    integer = {name: count for name, count in operators.items() if _is_integer(name)}
    if integer:
        yield Format(name="QOperator", detail=_counts(integer))
    dynamic = {name: count for name, count in operators.items() if name.rpartition(".")[2] in _DYNAMIC}
    if dynamic:
        yield Format(name="dynamic", detail=_counts(dynamic))
    for node_type in sorted(_N_BITS):
        blocks = Counter(
            f"{number(node, 'bits', 4)} bits in blocks of {number(node, 'block_size', 0) or 'unknown size'}"
            for node in nodes
            if node.op_type == node_type
        )
        if blocks:
            yield Format(name=node_type, detail=_counts(blocks))
    yield from _small_floats(model, nodes, constants)


def _is_integer(operator: str) -> bool:
    plain = operator.rpartition(".")[2]
    return plain.startswith("QLinear") or plain in _OPERATORS


def _pairs(pairs: list[onnx.NodeProto], constants: Mapping[str, TensorProto]) -> str:
    """How many, and what they round: activations and weights, their types and the reach of a scale."""
    counts = Counter(operator_of(node) for node in pairs)
    weights: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    for node in pairs:
        scale = constants.get(node.input[1]) if len(node.input) > 1 else None
        reach = "at a computed scale" if scale is None else _reach(node, scale)
        if node.op_type == "DequantizeLinear" and node.input and node.input[0] in constants:
            weights[f"{kind_of(constants[node.input[0]])} {reach}"] += 1
        elif node.op_type == "QuantizeLinear":
            zero = constants.get(node.input[2]) if len(node.input) > 2 else None
            to = number(node, "output_dtype", 0)
            kind = kind_of(zero) if zero is not None else kind_of(TensorProto(data_type=to or TensorProto.UINT8))
            activations[f"{kind} {reach}"] += 1
    parts = [_counts(counts)]
    if activations:
        parts.append(f"activations {_counts(activations)}")
    if weights:
        parts.append(f"weights {_counts(weights)}")
    return "; ".join(parts)


def _reach(node: onnx.NodeProto, scale: TensorProto) -> str:
    if size := number(node, "block_size", 0):
        return f"in blocks of {size}"
    many = 1
    for axis in scale.dims:
        many *= axis
    return "per channel" if many > 1 else "per tensor"


def _small_floats(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Mapping[str, TensorProto]
) -> Iterator[Format]:
    kinds = Counter(kind_of(tensor) for tensor in all_tensors(model))
    reads = Counter(name for node in nodes for name in node.input)
    cast = Counter(
        kind_of(constants[node.input[0]])
        for node in nodes
        if node.op_type == "Cast" and node.input and node.input[0] in constants and reads[node.input[0]] == 1
        and number(node, "to", 0) == TensorProto.FLOAT
    )  # fmt: skip
    for kind, count in kinds.items():
        if not kind.startswith(_SMALL_FLOATS):
            continue
        if cast[kind] == count:
            yield Format(name=kind, detail=f"{_many(count, 'constant')}, stored so and computed in float32")
        else:
            yield Format(name=kind, detail=_many(count, "constant"))


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(found.items(), key=lambda pair: -pair[1]))
