"""Operators, ONNX's and ONNX Runtime's own: what a node says of its own, what they take and give, in which types.

ONNX Runtime publishes those of its own (com.microsoft, and a few that it keeps in ONNX's domain) with the type
parameters that tie an output to an input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
from onnx import helper


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of an attribute, ``default`` where it is not given."""
    found = next((each for each in node.attribute if each.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes that ``node`` states."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


@dataclass(frozen=True)
class Parameter:
    """One input or output in an operator's definition: its type or type parameter, and the types that it may have."""

    name: str
    types: frozenset[str]


@dataclass(frozen=True)
class Definition:
    """What an operator takes and gives; the last parameter of either may stand for many."""

    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]


def definition(node: onnx.NodeProto, opsets: Mapping[str, int]) -> Definition | None:
    """The definition of ``node``'s operator, ONNX's or else ONNX Runtime's; None for one that neither knows."""
    version = opsets.get(node.domain, 1)
    return _of_onnx(node.op_type, version, node.domain) or _of_runtime(node.op_type, version, node.domain)


def parameter_of(formal: tuple[Parameter, ...], index: int) -> Parameter | None:
    """The parameter that stands for the ``index``-th input or output."""
    return formal[min(index, len(formal) - 1)] if formal else None


def opsets_of(model: onnx.ModelProto) -> dict[str, int]:
    """Domain -> version of the operator set that ``model`` imports; ``ai.onnx`` is another name of the default one."""
    found = {entry.domain: entry.version for entry in model.opset_import}
    default = found.get("", found.get("ai.onnx", 0))
    return found | {"": default, "ai.onnx": default}


def is_onnx(node: onnx.NodeProto, opsets: Mapping[str, int]) -> bool:
    """Whether ONNX itself defines ``node``'s operator at the version that is imported."""
    return _of_onnx(node.op_type, opsets.get(node.domain, 1), node.domain) is not None


@cache
def _of_onnx(operator: str, version: int, domain: str) -> Definition | None:
    domain = "" if domain == "ai.onnx" else domain
    if not onnx.defs.has(operator, version, domain):
        return None
    schema = onnx.defs.get_schema(operator, version, domain)
    return Definition(
        tuple(Parameter(item.type_str, frozenset(item.types)) for item in schema.inputs),
        tuple(Parameter(item.type_str, frozenset(item.types)) for item in schema.outputs),
    )


@cache
def _of_runtime(operator: str, version: int, domain: str) -> Definition | None:
    versions = [schema for schema in _runtime_schemas().get((domain, operator), ()) if schema.since_version <= version]
    if not versions:
        return None
    schema = max(versions, key=lambda schema: schema.since_version)
    allowed = {item.type_param_str: frozenset(item.allowed_type_strs) for item in schema.type_constraints}

    def parameters(formal: Any) -> tuple[Parameter, ...]:
        return tuple(Parameter(item.typeStr, allowed.get(item.typeStr, frozenset({item.typeStr}))) for item in formal)

    return Definition(parameters(schema.inputs), parameters(schema.outputs))


@cache
def _runtime_schemas() -> dict[tuple[str, str], list[Any]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as library

    found: dict[tuple[str, str], list[Any]] = {}
    for schema in library.get_all_operator_schema():
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return found
