"""Weights that stand behind a view or a cast become the weights themselves, where that makes nothing larger.

Exporters put Identity, Transpose, Reshape or Cast between a weight and what reads it, and tools that store weights in
fewer bits a Cast or DequantizeLinear; converters look for weights that are read directly.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from exporters.element_types import inner_graphs
from exporters.large_weights import array_of, tensor_of
from exporters.operators import attributes_of

Array = npt.NDArray[Any]
_SMALL_BYTES = 4096
"""Constants that may be there twice: shapes, scales, axes."""


def fold(graph: onnx.GraphProto, *, keep: Collection[str]) -> None:
    """Fold the main graph's constants in place; those named in ``keep`` are none, whatever stands in the file.

    A weight that is also read as it is stays, and what stands before its other reader too: tied weights stay one.
    Nodes that compute the same from the same weight give one.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in keep}
    outputs = {value.name for value in graph.output}
    names: dict[str, str] = {}
    done: dict[tuple[Any, ...], str] = {}
    reads = _reads(graph)
    same = Counter(_key(node) for node in graph.node if node.op_type in _FOLDED)
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        rename(node, names)
        made = node.output[0] if node.output else ""
        foldable = not node.domain and made not in outputs and all(name in constants for name in node.input if name)
        if foldable and node.op_type == "Identity":
            names[made] = node.input[0]
            reads[node.input[0]] += reads[made] - 1
        elif foldable and node.op_type in _FOLDED and (key := _key(node)) in done:
            names[made] = done[key]
        elif (
            foldable
            and node.op_type in _FOLDED
            and _is_free(node, constants, reads, same[_key(node)])
            and (folded := _FOLDED[node.op_type](node, [_array(constants, name) for name in node.input])) is not None
        ):
            graph.initializer.append(tensor_of(np.ascontiguousarray(folded), made))
            constants[made] = graph.initializer[-1]
            done[_key(node)] = made
        else:
            kept.append(node)
    copies = [_copy(node) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
    _drop_unread(graph, {*keep, *outputs})


def _is_free(node: onnx.NodeProto, constants: Mapping[str, TensorProto], reads: Counter[str], same: int) -> bool:
    """Whether the source goes when its view comes, or is small."""
    return reads[node.input[0]] <= same or int(np.prod(constants[node.input[0]].dims)) * 4 <= _SMALL_BYTES


def _key(node: onnx.NodeProto) -> tuple[Any, ...]:
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return (node.op_type, *node.input, *attributes)


def _array(constants: Mapping[str, TensorProto], name: str) -> Array | None:
    return array_of(constants[name]) if name else None


def _reads(graph: onnx.GraphProto) -> Counter[str]:
    """How often each name is read, in nested graphs too."""
    found = Counter(value.name for value in graph.output)
    for node in graph.node:
        found.update(node.input)
        for inner in inner_graphs(node):
            found.update(_reads(inner))
    return found


def rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let ``node``, and the graphs inside it, read other names."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for inner in inner_graphs(node):
        for nested in inner.node:
            rename(nested, names)


def _drop_unread(graph: onnx.GraphProto, keep: Collection[str]) -> None:
    reads = _reads(graph)
    left = [tensor for tensor in graph.initializer if reads[tensor.name] or tensor.name in keep]
    if len(left) < len(graph.initializer):
        copies = [_copy_tensor(tensor) for tensor in left]
        del graph.initializer[:]
        graph.initializer.extend(copies)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _copy_tensor(tensor: TensorProto) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    return copy


def _axes(node: onnx.NodeProto, inputs: list[Array | None], rank: int) -> tuple[int, ...] | None:
    """Of Squeeze and Unsqueeze: an attribute before opset 13, an input since; None where none are given."""
    given = inputs[1] if len(inputs) > 1 else attributes_of(node).get("axes")
    return None if given is None else tuple(int(axis) % rank if rank else 0 for axis in np.ravel(given))


def _transposed(node: onnx.NodeProto, inputs: list[Array | None]) -> Array | None:
    return np.transpose(_first(inputs), attributes_of(node).get("perm"))


def _reshaped(node: onnx.NodeProto, inputs: list[Array | None]) -> Array | None:
    values, shape = _first(inputs), inputs[1] if len(inputs) > 1 else None
    if shape is None:
        return None
    zero_stays = not attributes_of(node).get("allowzero", 0)
    return values.reshape(
        [values.shape[index] if axis == 0 and zero_stays else int(axis) for index, axis in enumerate(shape)]
    )


def _flattened(node: onnx.NodeProto, inputs: list[Array | None]) -> Array | None:
    values, axis = _first(inputs), attributes_of(node).get("axis", 1)
    rows = int(np.prod(values.shape[: axis if axis >= 0 else values.ndim + axis]))
    return values.reshape(rows, -1) if values.size else None


def _squeezed(node: onnx.NodeProto, inputs: list[Array | None]) -> Array | None:
    values = _first(inputs)
    return np.squeeze(values, _axes(node, inputs, values.ndim))


def _unsqueezed(node: onnx.NodeProto, inputs: list[Array | None]) -> Array | None:
    values = _first(inputs)
    given = inputs[1] if len(inputs) > 1 else attributes_of(node).get("axes")
    rank = values.ndim + (0 if given is None else np.size(given))
    axes = _axes(node, inputs, rank)
    return None if axes is None else np.expand_dims(values, axes)


def _cast(node: onnx.NodeProto, inputs: list[Array | None]) -> Array | None:
    """To fp32 only, from what was stored in fewer bits or in more."""
    values = _first(inputs)
    if attributes_of(node).get("to") != TensorProto.FLOAT or values.dtype.kind not in "fV" or values.dtype == object:
        return None
    return values.astype(np.float32)


def _dequantized(node: onnx.NodeProto, inputs: list[Array | None]) -> Array | None:
    values, scale = _first(inputs), inputs[1]
    if scale is None or scale.dtype not in (np.float32, np.float16) or "output_dtype" in attributes_of(node):
        return None
    given = attributes_of(node)
    axis, block = given.get("axis", 1), given.get("block_size", 0)
    zero = np.zeros_like(scale, np.float32) if len(inputs) < 3 or inputs[2] is None else inputs[2].astype(np.float32)
    if scale.ndim == values.ndim and block:
        scale, zero = (
            np.repeat(part, block, axis).take(range(values.shape[axis]), axis) for part in (scale, zero)
        )  # fmt: skip
    elif scale.size > 1:
        shape = [-1 if index == axis % values.ndim else 1 for index in range(values.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    result: Array = ((values.astype(np.float32) - zero) * scale.astype(np.float32)).astype(scale.dtype)
    return result


def _first(inputs: list[Array | None]) -> Array:
    assert inputs[0] is not None
    return inputs[0]


_FOLDED: dict[str, Callable[[onnx.NodeProto, list[Array | None]], Array | None]] = {
    "Transpose": _transposed,
    "Reshape": _reshaped,
    "Flatten": _flattened,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Cast": _cast,
    "DequantizeLinear": _dequantized,
}
