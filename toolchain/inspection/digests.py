"""What constants, attributes and nested graphs hold, as digests: equal where they differ in names alone."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import onnx
from onnx import TensorProto, helper

from exporters import large_weights, onnx_file
from exporters.element_types import inner_graphs
from exporters.tensors import raw_bytes
from toolchain.inspection.nodes import operator_of


def of_tensor(tensor: TensorProto) -> str:
    """Of type, dims and values: strings too, which have no bytes of their own, and what stays in its file."""
    digest = sha256(f"{tensor.data_type} {list(tensor.dims)}".encode())
    if large_weights.is_stub(tensor):
        for chunk in large_weights.chunks_of(tensor):
            digest.update(chunk)
    elif large_weights.is_there(tensor):
        strings = tensor.data_type == TensorProto.STRING
        digest.update(repr(list(tensor.string_data)).encode() if strings else raw_bytes(tensor))
    return digest.hexdigest()


def of_attribute(attribute: onnx.AttributeProto, names: Mapping[str, str]) -> Any:
    """Its value; of tensors and graphs what they hold. ``names`` are those of tensors around the graphs."""
    if attribute.HasField("g") or attribute.graphs:
        graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        return tuple(of_graph(graph, names) for graph in graphs)
    if attribute.HasField("t"):
        return of_tensor(attribute.t)
    if attribute.tensors:
        return tuple(map(of_tensor, attribute.tensors))
    if attribute.HasField("sparse_tensor"):
        held = attribute.sparse_tensor
        return of_tensor(held.values), of_tensor(held.indices), tuple(held.dims)
    if attribute.HasField("tp"):
        return sha256(attribute.tp.SerializeToString(deterministic=True)).hexdigest()
    value = helper.get_attribute_value(attribute)
    return tuple(value) if isinstance(value, list) else value


def of_graph(graph: onnx.GraphProto, outer: Mapping[str, str]) -> str:
    """Of its inputs, weights, nodes and outputs; ``outer`` says what it calls the tensors of graphs around it."""
    names = dict(outer)

    def made(name: str) -> str:
        if name:
            names[name] = str(len(names))
        return names.get(name, "")

    parts: list[object] = [made(value.name) for value in graph.input]
    parts += [(made(tensor.name), of_tensor(tensor)) for tensor in graph.initializer]
    parts += [(made(each.values.name), of_tensor(each.values), list(each.dims)) for each in graph.sparse_initializer]
    for node in graph.node:
        parts.append((operator_of(node), [names.get(name, name) for name in node.input]))
        parts.append(sorted((each.name, of_attribute(each, names)) for each in node.attribute))
        parts.append([made(name) for name in node.output])
    parts.append([names.get(value.name, value.name) for value in graph.output])
    return sha256(repr(parts).encode()).hexdigest()[:16]


def outer_names(node: onnx.NodeProto) -> list[str]:
    """The tensors that graphs inside ``node`` read from around it, in the order in which they do."""
    outer = onnx_file.outer_reads(node)
    return [name for name in dict.fromkeys(_read_inside(node)) if name in outer] if outer else []


def _name(attribute: Any) -> str:
    return str(attribute.name)


def _read_inside(node: onnx.NodeProto) -> Iterator[str]:
    ordered = onnx.NodeProto(attribute=sorted(node.attribute, key=_name))
    for graph in inner_graphs(ordered):
        for inner in graph.node:
            yield from inner.input
            yield from _read_inside(inner)
        yield from (value.name for value in graph.output)
