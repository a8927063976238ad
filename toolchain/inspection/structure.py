"""What differs between two models without a run: interface, operations, weights."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy.typing as npt
import onnx
from onnx import helper

from exporters.model_file import ModelFile, Value
from exporters.operators import opsets_of
from toolchain.inspection.alignment import UNMATCHED, aligned, as_in_b, in_b
from toolchain.inspection.difference import NAME, Change
from toolchain.inspection.matching import Matching
from toolchain.inspection.nodes import all_nodes, operator_of
from toolchain.inspection.operations import Operation, Operations
from toolchain.inspection.tensor_types import contradict, of_main_graph

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
                continue
            if value.name != other.name:
                yield Change(where=value.name, what=f"{what} {NAME}", a=value.name, b=other.name)
            if (value.dtype, value.shape) != (other.dtype, other.shape):
                yield Change(where=value.name, what=what, a=_text(value), b=_text(other))
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
        yield from _attributes(matching, a, b)
        yield from _reads(matching, a, b)
        for name, other in zip(a.results, b.results, strict=False):
            shapes = one.of(name), two.of(other)
            if name and contradict(*shapes):
                yield Change(where=a.label, what="shape", a=_shape(shapes[0]), b=_shape(shapes[1]))


def _shape(shape: tuple[int | None, ...] | None) -> str:
    return "?" if shape is None else f"[{', '.join('?' if axis is None else str(axis) for axis in shape)}]"


def _attributes(matching: Matching, a: Operation, b: Operation) -> Iterator[Change]:
    """Of operators that are the same but for their types; one that only one version of an operator has is compared
    where it is stated and no default."""
    if a.operator != b.operator and {a.kind, b.kind} != {a.kind}:
        return
    shared = a.operator == b.operator
    defaults = _defaults(a.kind, matching.a.opset), _defaults(b.kind, matching.b.opset)
    one, two = {**defaults[0], **a.attributes}, {**defaults[1], **b.attributes}
    stated = {*a.attributes, *b.attributes}
    for name in sorted(stated | (defaults[0].keys() & defaults[1].keys() if shared else set())):
        old, new = one.get(name), two.get(name)
        if not shared and not (name in a.attributes and name in b.attributes):
            continue
        if old is None or new is None:
            stands, operation, model = (new, b, matching.b) if old is None else (old, a, matching.a)
            if stands == defaults[old is None].get(name) or _is_implied(name, stands, operation, model):
                continue
        if old != new:
            yield Change(where=a.label, what=name, a=_plain(old), b=_plain(new))


def _is_implied(name: str, value: object, operation: Operation, model: Operations) -> bool:
    """Whether an attribute of a convolution or pool says what goes without saying."""
    if not operation.kind.endswith(("Conv", "ConvTranspose", "ConvInteger", "Pool")) or not isinstance(value, tuple):
        return False
    if name == "kernel_shape" and len(operation.sources) > 1 and operation.sources[1] is not None:
        kernel = model.base(operation.sources[1].tensor)
        return kernel is not None and tuple(kernel.dims[2:]) == value
    usual = {"pads": 0, "output_padding": 0, "strides": 1, "dilations": 1}.get(name)
    return usual is not None and set(value) == {usual}


@cache
def _defaults(kind: str, opset: int) -> dict[str, Any]:
    """ONNX's own at that operator set."""
    if not onnx.defs.has(kind, opset, ""):
        return {}
    found = {}
    for name, attribute in onnx.defs.get_schema(kind, opset, "").attributes.items():
        if attribute.default_value.type:
            value = helper.get_attribute_value(attribute.default_value)
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def _plain(value: object) -> str:
    if value is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _reads(matching: Matching, a: Operation, b: Operation) -> Iterator[Change]:
    """Sources that are not matched with each other, or that only one side has."""
    for _, old, new in aligned(matching, a, b):
        one, two = as_in_b(matching, old), in_b(matching, new)
        if one != two and UNMATCHED not in (one, two):
            yield Change(where=a.label, what="reads", a=old.tensor if old else "", b=new.tensor if new else "")


def rounding(operations: Operations) -> dict[str, int]:
    """The nodes that only round or cast, by operator."""
    return dict(Counter(operator_of(node) for node in operations.rounding))
