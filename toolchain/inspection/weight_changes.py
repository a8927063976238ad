"""How far the weights of two matched models are apart, in whatever types they are stored."""

from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.inspection.alignment import aligned
from toolchain.inspection.contents import kind_of
from toolchain.inspection.difference import WeightChange
from toolchain.inspection.integer_operators import INTEGER_OPERATORS
from toolchain.inspection.matching import Matching
from toolchain.inspection.nodes import number
from toolchain.inspection.operations import Operation, Operations
from toolchain.layers.damage import Noise

Array = npt.NDArray[Any]


def weights(matching: Matching) -> tuple[int, list[WeightChange]]:
    """(How many weights of matched operations are the same, the others, the furthest off first)."""
    same: set[tuple[str, str]] = set()
    found: dict[tuple[str, str], WeightChange] = {}
    for left, right in matching.pairs:
        a, b = matching.a.all[left], matching.b.all[right]
        for place, source, other in aligned(matching, a, b):
            if source is None or other is None or not (source.weight and other.weight) or _is_hidden(a, b, place):
                continue
            pair = source.tensor, other.tensor
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
    found = [INTEGER_OPERATORS.get(each.node.op_type) for each in (a, b)]
    return place == 2 and any(each is not None and each.rounded_bias for each in found)


def _compared(matching: Matching, a: Operation, b: Operation, place: int, one: str, two: str) -> WeightChange | None:
    """None for equal ones."""
    stored = matching.a.base(one), matching.b.base(two)
    kinds = tuple("computed" if each is None else f"{kind_of(each)}{list(each.dims)}" for each in stored)
    values = _values(matching.a, a, place, one), _values(matching.b, b, place, two)
    change = {"a": one, "b": two, "node": a.label, "kind_a": kinds[0], "kind_b": kinds[1]}
    wanted, got = values
    if wanted is None or got is None:
        held = matching.a.digest_of(_parts(a, place, one)), matching.b.digest_of(_parts(b, place, two))
        return None if held[0] == held[1] else WeightChange(**change, sqnr_db=None, max_difference=None)
    if place == 1 and got.ndim == 2 and _is_turned(a) != _is_turned(b):
        got = got.T
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
    integers = INTEGER_OPERATORS.get(operation.node.op_type)
    if operation.weight_scale and place == 1 and found is not None:
        node, by = operation.node, model.value(operation.weight_scale)
        zero = model.value(node.input[3]) if len(node.input) > 3 and node.input[3] else None
        return None if by is None else _dequantized(found, by, zero, operation.kind)
    if found is None or integers is None or integers.blocks or not integers.weight or integers.place != place:
        return None if found is None else _readable(found)
    read = operation.node.input
    scale, zero = [model.value(read[at]) if at < len(read) else None for at in integers.weight]
    return None if scale is None else _dequantized(found, scale, zero, operation.kind)


def _parts(operation: Operation, place: int, name: str) -> list[str]:
    """All that a weight is made of in the file: itself, its scale and its zero point."""
    node, integers = operation.node, INTEGER_OPERATORS.get(operation.node.op_type)
    scales = integers.weight if integers is not None and integers.place == place else ()
    more = [node.input[each] for each in scales if each < len(node.input)]
    if operation.weight_scale and place == 1:
        more += [operation.weight_scale, *node.input[3:4]]
    return [name, *more]


def _is_turned(operation: Operation) -> bool:
    return bool(number(operation.node, "transB", 0))


def _dequantized(values: Array, scale: Array, zero: Array | None, kind: str) -> Array:
    axis = 0 if kind == "Conv" else values.ndim - 1
    shape = [-1 if each == axis else 1 for each in range(values.ndim)] if scale.size > 1 else []
    zero = np.zeros(1, np.float32) if zero is None else zero.astype(np.float32)
    zero = zero.reshape(shape) if zero.size > 1 else zero.reshape(())
    return np.asarray((values.astype(np.float32) - zero) * scale.astype(np.float32).reshape(shape))


def _readable(values: Array) -> Array:
    """In types that numpy computes with."""
    return values.astype(np.float32) if values.dtype.kind == "V" or values.dtype.name.startswith("bf") else values
