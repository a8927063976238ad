"""Inputs and outputs of another float type than what is computed inside, with a Cast at each border."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters import onnx_file
from exporters.large_weights import array_of, turn

KINDS: dict[str, tuple[int, type[np.floating[Any]]]] = {
    "fp16": (TensorProto.FLOAT16, np.float16),
    "fp32": (TensorProto.FLOAT, np.float32),
}
"""What may be asked for: the element type in a file, and in numpy."""
_WIDER = {
    (TensorProto.FLOAT16, TensorProto.FLOAT), (TensorProto.FLOAT16, TensorProto.DOUBLE),
    (TensorProto.FLOAT, TensorProto.DOUBLE),
}  # fmt: skip
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def cast_interface(model: onnx.ModelProto, wanted: str, types: Mapping[str, onnx.ValueInfoProto]) -> None:
    """Let every float input and output of ``model`` be of the kind ``wanted`` (see :data:`KINDS`), under its own name.

    The inside stays as it is, but for a Cast that another tool put at the border and that is needed no more; ``types``
    are those of tensors inside, as far as they are known. Whole numbers, text, sequences, optionals and maps are left
    alone.
    """
    graph = model.graph
    kind, dtype = KINDS[wanted]
    borders = _Borders(model, kind)
    # outputs first: what an input gives out directly is an input then, and stays one
    after = [borders.outgoing(value) for value in graph.output if _is_other(value, kind)]
    before = [borders.incoming(value, dtype) for value in graph.input if _is_other(value, kind)]
    leaving = [node for node in after if node is not None]
    _bypass(graph, kind, before, leaving, {name: value.type.tensor_type.elem_type for name, value in types.items()})
    copies = [_copy(node) for node in (*before, *graph.node, *leaving)]
    del graph.node[:]
    graph.node.extend(copies)
    _drop_unread_casts(graph)


def _is_other(value: onnx.ValueInfoProto, kind: int) -> bool:
    return value.type.tensor_type.elem_type in _FLOATS and value.type.tensor_type.elem_type != kind


class _Borders:
    """Gives inputs and outputs another kind, and their old one to a tensor inside that gets a name of its own."""

    def __init__(self, model: onnx.ModelProto, kind: int) -> None:
        self._graph = model.graph
        self._kind = kind
        self._taken = {name for graph in onnx_file.graphs_of(model) for node in graph.node for name in node.output}
        self._taken |= {tensor.name for graph in onnx_file.graphs_of(model) for tensor in graph.initializer}
        self._taken |= {value.name for graph in onnx_file.graphs_of(model) for value in graph.input}

    def incoming(self, value: onnx.ValueInfoProto, dtype: type[np.floating[Any]]) -> onnx.NodeProto:
        """A Cast of an input to what it was, which its readers read; its default value, if it has one, is turned."""
        name, inside = value.name, self._new(f"{value.name}.inside")
        _rename_reads(self._graph, {name: inside})
        node = helper.make_node("Cast", [name], [inside], name=f"{inside}.cast", to=value.type.tensor_type.elem_type)
        value.type.tensor_type.elem_type = self._kind
        for tensor in self._graph.initializer:
            if tensor.name == name:
                turn(tensor, array_of(tensor).astype(dtype), name)
        return node

    def outgoing(self, value: onnx.ValueInfoProto) -> onnx.NodeProto | None:
        """A Cast of an output from what it was; None where it is an input that is given out."""
        name = value.name
        value.type.tensor_type.elem_type = self._kind
        if any(given.name == name for given in self._graph.input):
            return None
        names = {name: self._new(f"{name}.inside")}
        _rename_reads(self._graph, names)
        for node in self._graph.node:
            node.output[:] = [names.get(each, each) for each in node.output]
        for tensor in (*self._graph.initializer, *(sparse.values for sparse in self._graph.sparse_initializer)):
            tensor.name = names.get(tensor.name, tensor.name)
        for known in self._graph.value_info:
            known.name = names.get(known.name, known.name)
        return helper.make_node("Cast", [names[name]], [name], name=f"{name}.cast", to=self._kind)

    def _new(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _bypass(
    graph: onnx.GraphProto,
    kind: int,
    before: Sequence[onnx.NodeProto],
    leaving: Sequence[onnx.NodeProto],
    types: Mapping[str, int],
) -> None:
    """Go around a Cast inside that undoes the one at the border, where the two lose nothing: there and back again."""
    outputs = {value.name for value in graph.output}
    border = {node.output[0]: node for node in before}
    kept = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    shortened: dict[str, str] = {}
    for name, node in kept.items():
        entry = border.get(node.input[0])
        if entry is not None and _to(node) == kind and name not in outputs and _widens(_to(node), _to(entry)):
            shortened[name] = entry.input[0]
    _rename_reads(graph, shortened)
    for node in leaving:
        node.input[:] = [shortened.get(name, name) for name in node.input]
        maker = kept.get(node.input[0])
        if maker is not None and types.get(maker.input[0]) == _to(node) and _widens(_to(node), _to(maker)):
            node.input[0] = maker.input[0]
            node.op_type = "Identity"
            del node.attribute[:]


def _drop_unread_casts(graph: onnx.GraphProto) -> None:
    outputs = {value.name for value in graph.output}
    while True:  # one may be read by another alone
        read = {name for node in graph.node for name in (*node.input, *onnx_file.outer_reads(node))} | outputs
        idle = [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in read]
        if not idle:
            return
        for node in idle:
            graph.node.remove(node)


def _widens(kind: int, wider: int) -> bool:
    """Whether ``wider`` holds every value of ``kind``."""
    return (kind, wider) in _WIDER


def _to(cast: onnx.NodeProto) -> int:
    return int(next(each.i for each in cast.attribute if each.name == "to"))


def _rename_reads(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        onnx_file.rename_outer_reads(node, names)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
