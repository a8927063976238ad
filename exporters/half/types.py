"""The type of every tensor in a graph, as far as the model, ONNX and ONNX Runtime's own definitions tell it.

onnx's inference knows ONNX's operators only, and nothing behind an operator that it does not know. ONNX Runtime
publishes the definitions of its own (com.microsoft) too, with the type parameters that tie an output to an input, so
that types go on through them. What stays unknown is missing from the answer: nobody guesses.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
from onnx import TensorProto

FLOAT, HALF = "tensor(float)", "tensor(float16)"


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


def declared(graph: onnx.GraphProto) -> dict[str, str]:
    """Name -> type of what ``graph`` itself states: inputs, outputs, weights and value_info."""
    stated = {value.name: name_of(value.type) for value in (*graph.value_info, *graph.output, *graph.input)}
    stated |= {tensor.name: _tensor(tensor.data_type) for tensor in graph.initializer}
    stated |= {sparse.values.name: _tensor(sparse.values.data_type) for sparse in graph.sparse_initializer}
    return {name: kind for name, kind in stated.items() if kind}


def tell(node: onnx.NodeProto, types: MutableMapping[str, str], opsets: Mapping[str, int]) -> None:
    """Put into ``types`` those of ``node``'s outputs that it does not have and that its inputs' types decide."""
    missing = [index for index, name in enumerate(node.output) if name and name not in types]
    if not missing:
        return
    formal = definition(node, opsets)
    if formal is None:
        return
    bound = {
        parameter.name: types[name]
        for index, name in enumerate(node.input)
        if name in types and (parameter := parameter_of(formal.inputs, index))
    }
    for index in missing:
        parameter = parameter_of(formal.outputs, index)
        if parameter is None:
            continue
        if parameter.name in bound and bound[parameter.name] in parameter.types:
            types[node.output[index]] = bound[parameter.name]
        elif len(parameter.types) == 1:
            types[node.output[index]] = next(iter(parameter.types))


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside ``node``: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def opsets_of(model: onnx.ModelProto) -> dict[str, int]:
    """Domain -> version of the operator set that ``model`` imports; ``ai.onnx`` is another name of the default one."""
    found = {entry.domain: entry.version for entry in model.opset_import}
    default = found.get("", found.get("ai.onnx", 0))
    return found | {"": default, "ai.onnx": default}


def name_of(kind: onnx.TypeProto) -> str:
    """A type as definitions write it (``seq(tensor(float))``); empty where it says nothing of its elements."""
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        return _tensor(kind.tensor_type.elem_type)
    if which == "sequence_type":
        inner = name_of(kind.sequence_type.elem_type)
        return f"seq({inner})" if inner else ""
    if which == "optional_type":
        inner = name_of(kind.optional_type.elem_type)
        return f"optional({inner})" if inner else ""
    return which or ""


def _tensor(number: int) -> str:
    return f"tensor({TensorProto.DataType.Name(number).lower()})" if number else ""


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
