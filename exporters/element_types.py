"""The type of every tensor in a graph, as far as the model, ONNX and ONNX Runtime's own definitions tell it.

onnx's inference knows ONNX's operators only, and nothing behind an operator that it does not know: by ONNX Runtime's
definitions types go on through its own. What stays unknown is missing from the answer: nobody guesses.
"""

from collections.abc import Iterator, Mapping, MutableMapping

import onnx
from onnx import TensorProto

from exporters.operators import definition, parameter_of

FLOAT, HALF = "tensor(float)", "tensor(float16)"


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
