"""What differs between two models without a run: interface, operations, weights."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from exporters.model_file import ModelFile, Value
from exporters.operators import opsets_of
from toolchain.inspection.contents import kind_of
from toolchain.inspection.difference import Change, WeightChange
from toolchain.inspection.matching import Matching
from toolchain.inspection.nodes import all_nodes, operator_of
from toolchain.inspection.operations import Operation, Operations, weights_read
from toolchain.inspection.tensor_types import contradict, of_main_graph
from toolchain.layers.damage import Noise

Array = npt.NDArray[Any]
Pairing = Mapping[str, str]
"""Name in the first model -> in the second."""


def paired(one: Sequence[Value], two: Sequence[Value]) -> dict[str, str]:
    """Inputs, or outputs, by their names; those with others by their order, where both models have as many."""
    names = {value.name for value in one} & {value.name for value in two}
    found = {name: name for name in names}
    left = [value.name for value in one if value.name not in names]
    right = [value.name for value in two if value.name not in names]
    if len(left) == len(right):
        found |= dict(zip(left, right, strict=True))
    return found


def interface(a: ModelFile, b: ModelFile) -> Iterator[Change]:
    """Inputs and outputs with other names, types or shapes; versions."""
    for what, one, two in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        pairs, there = paired(one, two), {value.name: value for value in two}
        for value in one:
            other = there.get(pairs.get(value.name, ""))
            if other is None:
                yield Change(where=value.name, what=what, a=_text(value), b="")
            elif (value.name, value.dtype, value.shape) != (other.name, other.dtype, other.shape):
                yield Change(where=value.name, what=what, a=_text(value), b=f"{other.name} {_text(other)}")
        for value in two:
            if value.name not in pairs.values():
                yield Change(where=value.name, what=what, a="", b=_text(value))
        if [pairs.get(value.name) for value in one] != [value.name for value in two] and len(pairs) == len(one):
            yield Change(where=f"{what}s", what="order", a=_names(one), b=_names(two))
    versions = opsets_of(a.graph), opsets_of(b.graph)
    used = {placed.node.domain for model in (a, b) for placed in all_nodes(model.graph)}
    for domain in sorted(used - {"ai.onnx"}):
        old, new = (str(each.get(domain, "")) for each in versions)
        if old != new:
            yield Change(where=domain or "ai.onnx", what="opset", a=old, b=new)
    if a.ir_version != b.ir_version:
        yield Change(where="", what="IR version", a=str(a.ir_version), b=str(b.ir_version))


def _text(value: Value) -> str:
    return f"{value.dtype}[{', '.join(map(str, value.shape))}]"


def _names(values: Sequence[Value]) -> str:
    return ", ".join(value.name for value in values)


def changes(matching: Matching) -> Iterator[Change]:
    """What matched operations do otherwise: operator, attributes, what they read, the shape of what they make."""
    one, two = of_main_graph(matching.a.model)[1], of_main_graph(matching.b.model)[1]
    for left, right in matching.pairs:
        a, b = matching.a.all[left], matching.b.all[right]
        if a.operator != b.operator:
            yield Change(where=a.label, what="operator", a=a.operator, b=b.operator)
        yield from _attributes(a, b)
        yield from _reads(matching, a, b)
        for name, other in zip(a.results, b.results, strict=False):
            shapes = one.of(name), two.of(other)
            if name and contradict(*shapes):
                yield Change(where=a.label, what="shape", a=_shape(shapes[0]), b=_shape(shapes[1]))


def _shape(shape: tuple[int | None, ...] | None) -> str:
    return "?" if shape is None else f"[{', '.join('?' if axis is None else str(axis) for axis in shape)}]"


def _attributes(a: Operation, b: Operation) -> Iterator[Change]:
    """Of operators that are the same but for their types."""
    if a.operator != b.operator and {a.kind, b.kind} != {a.kind}:
        return
    defaults = _defaults(a.kind)
    shared = a.operator == b.operator
    for name in sorted({*a.attributes, *b.attributes}):
        old, new = (each.attributes.get(name, defaults.get(name)) for each in (a, b))
        known = shared or (name in a.attributes and name in b.attributes)
        if known and old != new:
            yield Change(where=a.label, what=name, a=_plain(old), b=_plain(new))


def _defaults(kind: str) -> dict[str, Any]:
    """ONNX's own; that no attribute is the same as one of zeros or ones is not looked into."""
    if not onnx.defs.has(kind, domain=""):
        return {}
    found = {}
    for name, attribute in onnx.defs.get_schema(kind, domain="").attributes.items():
        if attribute.default_value.type:
            value = helper.get_attribute_value(attribute.default_value)
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def _plain(value: object) -> str:
    if value is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _reads(matching: Matching, a: Operation, b: Operation) -> Iterator[Change]:
    """Sources that are not matched with each other."""
    for old, new in zip(_activations(a), _activations(b), strict=False):
        if old.maker is not None and new.maker is not None:
            same = matching.of.get(old.maker, -1) == new.maker and old.output == new.output
            if same or old.maker not in matching.of:
                continue
        elif old.given == new.given and (old.maker is None) == (new.maker is None):
            continue
        yield Change(where=a.label, what="reads", a=old.tensor, b=new.tensor)


def _activations(operation: Operation) -> "list[Any]":
    return [source for source in operation.sources if source is not None and not source.weight]


def rounding(operations: Operations) -> dict[str, int]:
    """The nodes that only round or cast, by operator."""
    return dict(Counter(operator_of(node) for node in operations.rounding))


def weights(matching: Matching) -> tuple[int, list[WeightChange]]:
    """(How many weights of matched operations are the same, the others, the furthest off first)."""
    same: set[tuple[str, str]] = set()
    found: dict[tuple[str, str], WeightChange] = {}
    for left, right in matching.pairs:
        a, b = matching.a.all[left], matching.b.all[right]
        others = dict(weights_read(b))
        for place, source in weights_read(a):
            if place not in others or _is_hidden(a, b, place):
                continue
            pair = source.tensor, others[place].tensor
            if pair in same or pair in found:
                continue
            change = _compared(matching, a, b, place, *pair)
            if change is None:
                same.add(pair)
            else:
                found[pair] = change
    changed = sorted(found.values(), key=lambda each: -1e9 if each.sqnr_db is None else each.sqnr_db)
    return len(same), changed


def _is_hidden(a: Operation, b: Operation, place: int) -> bool:
    """Whether a bias of integers is at a scale that the operator makes of two others."""
    return place == 2 and any(each.node.op_type in ("QLinearConv", "QGemm") for each in (a, b))


def _compared(matching: Matching, a: Operation, b: Operation, place: int, one: str, two: str) -> WeightChange | None:
    """None for equal ones."""
    stored = matching.a.base(one), matching.b.base(two)
    kinds = tuple("computed" if each is None else f"{kind_of(each)}{list(each.dims)}" for each in stored)
    values = _values(matching.a, a, place, one), _values(matching.b, b, place, two)
    change = {"a": one, "b": two, "node": a.label, "kind_a": kinds[0], "kind_b": kinds[1]}
    wanted, got = values
    if wanted is None or got is None:
        known = None not in stored and kinds[0] != kinds[1]
        return WeightChange(**change, sqnr_db=None, max_difference=None) if known else None
    if wanted.shape != got.shape and got.ndim == 2 and wanted.shape == got.T.shape:
        got = got.T
    if wanted.shape != got.shape and wanted.size == got.size and a.operator != b.operator:
        got = got.reshape(wanted.shape)
    if wanted.shape != got.shape:
        return WeightChange(**change, sqnr_db=None, max_difference=None)
    if np.array_equal(wanted, got, equal_nan=wanted.dtype.kind == "f"):
        return None if kinds[0] == kinds[1] else WeightChange(**change, sqnr_db=200.0, max_difference=0.0)
    if wanted.dtype.kind not in "fiu":
        return WeightChange(**change, sqnr_db=None, max_difference=None)
    noise = Noise()
    noise.add(wanted, got)
    off = np.abs(wanted.astype(np.float64) - got.astype(np.float64))
    return WeightChange(**change, sqnr_db=noise.sqnr_db, max_difference=float(np.nanmax(off, initial=0.0)))


def _values(model: Operations, operation: Operation, place: int, name: str) -> Array | None:
    """In float where they are stored as something else."""
    if operation.node.op_type == "MatMulNBits" and place == 1:
        return model.packed(operation)
    found = model.value(name)
    scale = _INTEGER_SCALES.get(operation.node.op_type)
    if operation.weight_scale and place == 1 and found is not None:
        node, by = operation.node, model.value(operation.weight_scale)
        zero = model.value(node.input[3]) if len(node.input) > 3 and node.input[3] else None
        return None if by is None else _dequantized(found, by, zero, operation.kind)
    if found is None or scale is None or scale[0] != place:
        return None if found is None else _readable(found)
    held = [model.value(operation.node.input[at]) if at < len(operation.node.input) else None for at in scale[1:]]
    if held[0] is None:
        return None
    return _dequantized(found, held[0], held[1], operation.kind)


_INTEGER_SCALES = {
    "QLinearConv": (1, 4, 5), "QLinearMatMul": (1, 4, 5), "QGemm": (1, 4, 5), "DynamicQuantizeMatMul": (1, 2, 3),
    "MatMulIntegerToFloat": (1, 3, 5),
}  # fmt: skip
"""Operators of integers: which source is a weight, and the inputs with its scale and zero point."""


def _dequantized(values: Array, scale: Array, zero: Array | None, kind: str) -> Array:
    axis = 0 if kind == "Conv" else values.ndim - 1
    shape = [-1 if each == axis else 1 for each in range(values.ndim)] if scale.size > 1 else []
    zero = np.zeros(1, np.float32) if zero is None else zero.astype(np.float32)
    zero = zero.reshape(shape) if zero.size > 1 else zero.reshape(())
    return np.asarray((values.astype(np.float32) - zero) * scale.astype(np.float32).reshape(shape))


def _readable(values: Array) -> Array:
    """In types that numpy computes with."""
    return values.astype(np.float32) if values.dtype.kind == "V" or values.dtype.name.startswith("bf") else values
