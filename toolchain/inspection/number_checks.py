"""Weights that are no numbers, and numbers that half precision does not hold."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from exporters import finite, onnx_file
from exporters.large_weights import array_of, is_there
from toolchain.inspection.faults import WARNING, Fault
from toolchain.inspection.nodes import all_nodes, constants_of, number

_HALF_LARGEST = float(np.finfo(np.float16).max)
_RAISING = {"Exp", "Pow", "ReduceSumSquare", "ReduceSum", "ReduceL2", "ReduceLogSumExp", "ReduceProd"}
"""Operators whose results leave half precision's range while their inputs are well inside."""
_PRODUCTS = {"MatMul": 1, "Gemm": 1, "Conv": 1, "ConvTranspose": 1}
_MASKS = {"Where", "Add", "Sub", "Max", "Min", "Clip", "Pad", "ConstantOfShape", "Expand"}
_HANDING_ON = {"Cast", "CastLike", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Slice"}
_LOSSLESS = "Keep what it belongs to in float32 (`nnx convert --fp16` does), or train it smaller."


def number_faults(model: onnx.ModelProto) -> Iterator[Fault]:
    """Weights that hold NaN, or infinity where that has no meaning; those that lie beside the file must be read."""
    for found in finite.not_finite(model):
        do = "Look at the training, or export the model again."
        yield Fault(kind="weights", where=found.name, what=f"it has {found}", do=do)


def half_faults(model: onnx.ModelProto) -> Iterator[Fault]:
    """What overflows in half precision: certainly in a file that computes in it, and in one that would be converted."""
    halves = any(tensor.data_type == TensorProto.FLOAT16 for tensor in _weights(model).values())
    yield from _cast_too_large(model)
    if halves:
        yield from _overflowing_products(model)
        yield from _raising(model)
    else:
        yield from _beyond(model)


def _weights(model: onnx.ModelProto) -> dict[str, TensorProto]:
    return {
        name: tensor
        for graph in onnx_file.graphs_of(model)
        for name, tensor in constants_of(graph).items()
        if is_there(tensor)
    }


def _largest(tensor: TensorProto) -> float:
    values = _floats(tensor)
    finite_ones = values[np.isfinite(values)] if values.size else values
    return float(np.abs(finite_ones).max()) if finite_ones.size else 0.0


def _floats(tensor: TensorProto) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        return array_of(tensor).astype(np.float32)


def _cast_too_large(model: onnx.ModelProto) -> Iterator[Fault]:
    """But for a mask: as -inf it means the same."""
    weights, readers = _weights(model), _readers(model)
    for placed in all_nodes(model):
        node = placed.node
        if node.op_type != "Cast" or number(node, "to", 0) != TensorProto.FLOAT16:
            continue
        if not node.input or node.input[0] not in weights or not _users(node.output[0], readers) - _MASKS:
            continue
        if (largest := _largest(weights[node.input[0]])) > _HALF_LARGEST:
            what = f"casts '{node.input[0]}' to float16, which reaches 65,504; it has {largest:,.6g}"
            yield Fault(kind="fp16", where=placed.label, what=what, do=_LOSSLESS)


def _overflowing_products(model: onnx.ModelProto) -> Iterator[Fault]:
    """A warning: products in half precision that overflow for inputs of magnitude 1, each with its weight's sign."""
    weights = _weights(model)
    for placed in all_nodes(model):
        node = placed.node
        index = _PRODUCTS.get(node.op_type)
        tensor = weights.get(node.input[index]) if index is not None and len(node.input) > index else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT16 or len(tensor.dims) < 2:
            continue
        summed = _summed(node, np.abs(_floats(tensor)))
        worst = float(summed[np.isfinite(summed)].max(initial=0.0))
        if worst > _HALF_LARGEST:
            what = f"its weights in float16 sum up to {worst:,.6g}: inputs of ±1 may overflow, 65,504 is the end"
            yield Fault(kind="fp16", where=placed.label, what=what, do=_LOSSLESS, severity=WARNING)


def _summed(node: onnx.NodeProto, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of magnitudes those that one result adds up at most."""
    if node.op_type == "Conv":
        return np.asarray(values.reshape(values.shape[0], -1).sum(1))
    if node.op_type == "ConvTranspose":  # (inputs, outputs of a group, *kernel): a group has so many inputs
        groups = max(number(node, "group", 1), 1)
        if values.shape[0] % groups:
            return np.zeros(0, np.float32)
        return np.asarray(values.reshape(groups, values.shape[0] // groups, values.shape[1], -1).sum((1, 3)))
    return np.asarray(values.sum(-1 if node.op_type == "Gemm" and number(node, "transB", 0) else -2))


def _raising(model: onnx.ModelProto) -> Iterator[Fault]:
    """A warning: operators on half precision whose results grow out of it."""
    types = _half_tensors(model)
    found: dict[str, list[str]] = {}
    for placed in all_nodes(model):
        if placed.node.op_type in _RAISING and placed.node.input and placed.node.input[0] in types:
            found.setdefault(placed.node.op_type, []).append(placed.label)
    for operator, labels in found.items():
        many = f"{len(labels)} {operator} node{'' if len(labels) == 1 else 's'}"
        limit = "11 overflows" if operator == "Exp" else "some hundreds may overflow"
        yield Fault(
            kind="fp16", where=labels[0], severity=WARNING, what=f"{many} in float16: an input above {limit}",
            do="Keep it in float32 with `nnx convert --fp16 --calibration DATA`, which looks at real values.",
        )  # fmt: skip


def _half_tensors(model: onnx.ModelProto) -> set[str]:
    """The tensors that are stated to be half precision, or come of such by operators that keep it."""
    found = {name for name, tensor in _weights(model).items() if tensor.data_type == TensorProto.FLOAT16}
    for graph in onnx_file.graphs_of(model):
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                found.add(value.name)
        for node in graph.node:
            if node.op_type == "Cast":
                found.update(node.output if number(node, "to", 0) == TensorProto.FLOAT16 else ())
            elif node.input and node.input[0] in found and node.op_type not in ("Shape", "ArgMax", "Equal"):
                found.update(node.output)
    return found


def _beyond(model: onnx.ModelProto) -> Iterator[Fault]:
    """A warning: what would be lost in half precision. A mask's -3e38 becomes -inf, and means the same."""
    readers = _readers(model)
    for name, tensor in _weights(model).items():
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.BFLOAT16):
            continue
        if not _users(name, readers) - _MASKS:
            continue
        if (largest := _largest(tensor)) > _HALF_LARGEST:
            yield Fault(
                kind="fp16", where=name, severity=WARNING, do=_LOSSLESS,
                what=f"it reaches {largest:,.6g}, and half precision 65,504: as float16 it would be infinite",
            )  # fmt: skip


def _readers(model: onnx.ModelProto) -> Mapping[str, list[onnx.NodeProto]]:
    found: dict[str, list[onnx.NodeProto]] = {}
    for placed in all_nodes(model):
        for name in placed.node.input:
            found.setdefault(name, []).append(placed.node)
    return found


def _users(name: str, readers: Mapping[str, list[onnx.NodeProto]]) -> set[str]:
    """The operators that compute with a tensor, behind those that only hand it on."""
    found: set[str] = set()
    pending, seen = [name], set()
    while pending:
        each = pending.pop()
        for node in readers.get(each, []) if each not in seen else ():
            if node.op_type in _HANDING_ON and node.output:
                pending.append(node.output[0])
            else:
                found.add(node.op_type)
        seen.add(each)
    return found
