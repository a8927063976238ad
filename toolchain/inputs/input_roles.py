"""What a graph does with its inputs, as far as it tells which values they can have: an index, a mask, a logarithm's."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import onnx
from onnx import numpy_helper

from exporters import onnx_file
from exporters.operators import attributes_of


class Kind(StrEnum):
    """How an input is used, the first that applies."""

    INDEX = "index"
    """Chooses rows of a table."""
    MASK = "mask"
    """Says which places count."""
    LENGTH = "length"
    """Says how many steps of a sequence count."""
    COUNT = "count"
    """How many there shall be: the k of a TopK, the trips of a Loop."""
    UNIT = "unit"
    """A float between 0 and 1: a threshold, a share."""
    POSITIVE = "positive"
    """A float that only those above 0 have a logarithm or a root of."""
    PLAIN = "plain"
    """Nothing is known of it."""


@dataclass(frozen=True)
class Role:
    """``rows`` is the length of the shortest table that an index goes into, None where the graph does not tell.

    ``lengths`` are those that weights demand of the input's own axes, counted from its end: -1 -> features.
    """

    kind: Kind = Kind.PLAIN
    rows: int | None = None
    lengths: tuple[tuple[int, int], ...] = ()


_ORDER = tuple(Kind)
_INDICES = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "GatherBlockQuantized": 1, "OneHot": 0}
_WAYS_OF_INDICES = {
    "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Identity", "Expand", "Slice", "Tile", "Clip",
    "Concat", "Split", "Max", "Min", "Where", "Add", "Sub", "Gather",
}  # fmt: skip
_WAYS_OF_MASKS = {
    "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Identity", "Expand", "Slice", "Tile", "Not",
    "And", "Or", "Greater", "GreaterOrEqual", "Less", "Equal",
}  # fmt: skip
_TAKE_PARTS = {"Reshape", "Expand", "Tile", "Slice", "Unsqueeze", "Squeeze", "Split", "Gather"}
_SAME = {"Cast", "Identity"}
_ROOTS = {"Log": (0,), "Sqrt": (0,), "Reciprocal": (0,), "Pow": (0,), "Div": (1,)}
_LENGTHS = {"LSTM": 4, "GRU": 4, "RNN": 4, "ReverseSequence": 1}
_COUNTS = {"TopK": 1, "Loop": 0, "NonMaxSuppression": 2, "ConstantOfShape": 0, "Trilu": 1}
_ATTENTIONS = {"Attention", "MultiHeadAttention", "EmbedLayerNormalization"}
_MOST_STEPS = 12
_LARGE = 1e3


@dataclass(frozen=True)
class _Step:
    """A tensor on the way from an input; ``added`` is what an index has grown by, ``inverted`` after 1 - mask."""

    name: str
    added: int = 0
    inverted: bool = False
    cast: bool = False


def roles_of(model: onnx.ModelProto) -> dict[str, Role]:
    """The role of every input, by what reads it: directly, or behind nodes that hand its values on."""
    graph = _Graph(model)
    return {name: graph.role(name) for name in onnx_file.interface_of(model)[0]}


class _Graph:
    """Who reads a tensor, in the graph and in the graphs inside it, and the weights' shapes and small values."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._constants: dict[str, onnx.TensorProto] = {}
        self._types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        for graph in onnx_file.graphs_of(model):
            for tensor in graph.initializer:
                self._keep(tensor.name, tensor)
            for node in graph.node:
                for place, name in enumerate(node.input):
                    self._readers.setdefault(name, []).append((node, place))
                self._fold(node)

    def role(self, name: str) -> Role:
        """The first kind that any reader tells, with the shortest table of all."""
        is_float = self._types.get(name) in _FLOATS
        found = set(self._float_kinds(name) if is_float else self._int_kinds(name))
        kinds = [kind for kind, _ in found]
        kind = min(kinds, key=_ORDER.index, default=Kind.PLAIN)
        rows = min((rows for _, rows in found if rows), default=None)
        return Role(kind, rows if kind is Kind.INDEX else None, tuple(sorted(self._lengths(name))))

    def _keep(self, name: str, tensor: onnx.TensorProto) -> None:
        self._shapes[name] = tuple(tensor.dims)
        self._constants[name] = tensor

    def _fold(self, node: onnx.NodeProto) -> None:
        """Constants, and what changes nothing but the type of one."""
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                self._keep(node.output[0], attribute.t)
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_int"):
                self._keep(
                    node.output[0], numpy_helper.from_array(np.array(onnx.helper.get_attribute_value(attribute)))
                )
        source = self._shapes.get(node.input[0]) if node.input else None
        if source is None:
            return
        if node.op_type in ("DequantizeLinear", "Cast", "Identity"):
            self._shapes[node.output[0]] = source
        elif node.op_type == "Transpose":
            order = attributes_of(node).get("perm", list(reversed(range(len(source)))))
            self._shapes[node.output[0]] = tuple(source[axis] for axis in order)

    def _int_kinds(self, name: str) -> Iterator[tuple[Kind, int | None]]:
        boolean = self._types.get(name) == onnx.TensorProto.BOOL
        if boolean:
            yield Kind.MASK, None
        for step, node, place in self._walk(name, _WAYS_OF_INDICES):
            if _INDICES.get(node.op_type) == place or (node.op_type == "EmbedLayerNormalization" and place < 2):
                rows = self._rows(node, place)
                yield Kind.INDEX, None if rows is None else max(1, rows - step.added)
            elif _LENGTHS.get(node.op_type) == place:
                yield Kind.LENGTH, None
            elif _COUNTS.get(node.op_type) == place or (node.op_type == "Range" and place == 1):
                yield Kind.COUNT, None
        yield from ((kind, None) for kind in self._masks(name))

    def _float_kinds(self, name: str) -> Iterator[tuple[Kind, int | None]]:
        for _, node, place in self._walk(name, _SAME):
            if place in _ROOTS.get(node.op_type, ()):
                yield Kind.POSITIVE, None
            elif node.op_type == "NonMaxSuppression" and place in (3, 4):
                yield Kind.UNIT, None
        for step, node, place in self._walk(name, _WAYS_OF_MASKS | {"Sub"}):
            if step.inverted and node.op_type == "Mul" and self._is_large(node.input[1 - place]):
                yield Kind.MASK, None

    def _masks(self, name: str) -> Iterator[Kind]:
        for step, node, place in self._walk(name, _WAYS_OF_MASKS | {"Sub"}):
            scales = step.inverted or (step.cast and len(node.input) > 1 and node.input[1 - place] not in self._shapes)
            if (
                (node.op_type in ("Where", "If") and place == 0)
                or (node.op_type == "Mul" and scales)
                or (node.op_type in _ATTENTIONS and place > 2)
            ):
                yield Kind.MASK

    def _walk(self, name: str, ways: set[str]) -> Iterator[tuple[_Step, onnx.NodeProto, int]]:
        """Every reader of ``name``, and of what nodes of ``ways`` make of it."""
        pending, seen = [(_Step(name), 0)], {name}
        while pending:
            step, depth = pending.pop()
            for node, place in self._readers.get(step.name, ()):
                yield step, node, place
                if node.op_type not in ways or depth == _MOST_STEPS:
                    continue
                further = self._after(step, node, place)
                for output in node.output:
                    if further is not None and output not in seen:
                        seen.add(output)
                        pending.append((replace(further, name=output), depth + 1))

    def _after(self, step: _Step, node: onnx.NodeProto, place: int) -> _Step | None:
        if node.op_type in _TAKE_PARTS and place:
            return None
        if node.op_type == "Cast":
            floating = attributes_of(node).get("to") in _FLOATS
            return replace(step, cast=step.cast or floating)
        if node.op_type in ("Add", "Sub"):
            other = self._value(node.input[1 - place])
            if node.op_type == "Sub" and place == 1:
                return replace(step, inverted=True) if other == 1 else None
            if other is None:
                return step if node.op_type == "Add" and node.input[1 - place] not in self._shapes else None
            return replace(step, added=step.added + int(other) * (1 if node.op_type == "Add" else -1))
        return step

    def _rows(self, node: onnx.NodeProto, place: int) -> int | None:
        """How many rows the table has that ``node`` takes some of."""
        if node.op_type == "OneHot":
            depth = self._value(node.input[1])
            return None if depth is None else int(depth)
        source = node.input[2 + 2 * place] if node.op_type == "EmbedLayerNormalization" else node.input[0]
        shape = self._shapes.get(source)
        if not shape:
            return None
        attributes = attributes_of(node)
        axis = attributes.get("gather_axis", attributes.get("axis", 0))
        return min(shape) if node.op_type == "GatherND" else shape[axis]

    def _value(self, name: str) -> float | None:
        """A constant of one element."""
        tensor = self._constants.get(name)
        if tensor is None or int(np.prod(tensor.dims, dtype=np.int64)) != 1:
            return None
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.data_type == onnx.TensorProto.STRING:
            return None
        return float(numpy_helper.to_array(tensor).reshape(-1)[0])

    def _is_large(self, name: str) -> bool:
        value = self._value(name)
        return value is not None and abs(value) >= _LARGE

    def _lengths(self, name: str) -> Iterator[tuple[int, int]]:
        """(axis from the end, length) that a weight wants."""
        for _, node, place in self._walk(name, _SAME | {"QuantizeLinear", "DequantizeLinear"}):
            weight = self._shapes.get(node.input[1]) if len(node.input) > 1 and not place else None
            if not weight:
                continue
            if node.op_type == "Conv" and len(weight) > 2:
                yield 1 - len(weight), weight[1] * int(attributes_of(node).get("group", 1))
            elif node.op_type == "ConvTranspose" and len(weight) > 2:
                yield 1 - len(weight), weight[0]
            elif node.op_type == "MatMul" and len(weight) > 1:
                yield -1, weight[-2]
            elif node.op_type == "Gemm" and not attributes_of(node).get("transA"):
                yield -1, weight[1 if attributes_of(node).get("transB") else 0]
            elif node.op_type in ("LSTM", "GRU", "RNN"):
                yield -1, weight[2]


_FLOATS = {
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE,
}  # fmt: skip
