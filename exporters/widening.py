"""A half-precision model in fp32, which is what int8 and int4 are made from; its interface stays what it is."""

from collections import ChainMap
from collections.abc import Mapping
from enum import StrEnum

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters import element_types, operators, skeleton
from exporters.element_types import FLOAT, HALF, inner_graphs
from exporters.large_weights import array_of, turn

TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype"}
"""The attributes by which operators say of which type their result is."""
_READS_BITS = {"BitCast"}
_STORED = {"Cast", "Gather", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat"}
"""Operators that take weights out of store: what they read in half precision nobody has computed in it."""
_SUFFIX = ".fp32"


class Half(StrEnum):
    """What of a model was half precision before it was widened."""

    NOTHING = "nothing"
    STORED = "stored"
    COMPUTED = "computed"


def widen(model: onnx.ModelProto) -> Half:
    """Turn every half-precision tensor inside ``model`` to fp32, in place; say what was widened.

    Weights are cast, which is exact; inputs and outputs keep their type, with a Cast behind or before them. A model
    with half-precision operators that have no form in fp32, or that only somebody else's library knows, or with
    sequences of half precision in its interface, stays as it is.
    """
    told = skeleton.inferred(model, data_prop=False).graph
    survey = _Survey(operators.opsets_of(model))
    survey.run(model.graph, told, ChainMap())
    graph = model.graph
    if not survey.found or survey.stuck or any(_holds_inside(value.type) for value in (*graph.input, *graph.output)):
        return Half.NOTHING
    for node in survey.idle:
        node.op_type = "Identity"
        del node.attribute[:]
    given = {value.name for value in graph.input}
    border = {
        value.name: value.type for value in (*graph.input, *graph.output) if element_types.name_of(value.type) == HALF
    }
    names = {name: name + _SUFFIX for name in border}
    for tensor in graph.initializer:
        if tensor.name in names and tensor.name not in given:
            tensor.name = names[tensor.name]
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        _rename(node, names)
    _turn(graph, given)
    for value in (*graph.input, *graph.output):
        if value.name in border:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    fed = [_cast(value.name, names[value.name], TensorProto.FLOAT) for value in graph.input if value.name in border]
    made = [
        _cast(names[value.name], value.name, TensorProto.FLOAT16)
        for value in graph.output
        if value.name in border and value.name not in given
    ]
    nodes = [*fed, *_without_idle(graph), *made]
    del graph.node[:]
    graph.node.extend(nodes)
    return Half.COMPUTED if survey.computed or border else Half.STORED


def _without_idle(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Copies of the nodes without those that only hand on what they read, but where that is an output."""
    outputs = {value.name for value in graph.output}
    names: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        _rename(node, names)
        if node.op_type == "Identity" and not node.domain and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
        else:
            kept.append(onnx.NodeProto())
            kept[-1].CopyFrom(node)
    return kept


class _Survey:
    """What of a graph is half precision: whether any is, is computed in it, or has no form in fp32; and idle Casts."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = opsets
        self.found = self.stuck = self.computed = False
        self.idle: list[onnx.NodeProto] = []

    def run(self, graph: onnx.GraphProto, told: onnx.GraphProto, outer: ChainMap[str, str]) -> None:
        known = outer.new_child({**element_types.declared(told), **element_types.declared(graph)})
        self.found |= any(HALF in kind for kind in known.maps[0].values())
        for node, twin in zip(graph.node, told.node, strict=True):
            for inner, typed in zip(inner_graphs(node), inner_graphs(twin), strict=True):
                self.run(inner, typed, known)
            element_types.tell(node, known, self._opsets)
            if not any(HALF in known.get(name, "") for name in (*node.input, *node.output)):
                continue
            self.found = True
            self.computed |= node.op_type not in _STORED
            self.stuck |= node.op_type in _READS_BITS or not _has_fp32_form(node, known, self._opsets)
            ends = {known.get(name) for name in (*node.input, *node.output)}
            if node.op_type == "Cast" and ends <= {FLOAT, HALF}:
                self.idle.append(node)


def _holds_inside(kind: onnx.TypeProto) -> bool:
    name = element_types.name_of(kind)
    return HALF in name and name != HALF


def _has_fp32_form(node: onnx.NodeProto, known: Mapping[str, str], opsets: Mapping[str, int]) -> bool:
    formal = operators.definition(node, opsets)
    if formal is None:
        return False
    ends = ((formal.inputs, node.input), (formal.outputs, node.output))
    for parameters, names in ends:
        for index, name in enumerate(names):
            parameter = operators.parameter_of(parameters, index)
            kind = known.get(name, "")
            if HALF in kind and parameter and kind.replace(HALF, FLOAT) not in parameter.types:
                return False
    return True


def _turn(graph: onnx.GraphProto, overridable: set[str]) -> None:
    for tensor in graph.initializer:
        if tensor.name not in overridable:
            _turn_tensor(tensor)
    for sparse in graph.sparse_initializer:
        _turn_tensor(sparse.values)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _turn_type(value.type)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in TYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                _turn_tensor(tensor)
        for inner in inner_graphs(node):
            _turn(inner, set())


def _turn_type(kind: onnx.TypeProto) -> None:
    which = kind.WhichOneof("value")
    if which == "tensor_type" and kind.tensor_type.elem_type == TensorProto.FLOAT16:
        kind.tensor_type.elem_type = TensorProto.FLOAT
    elif which in ("sequence_type", "optional_type"):
        _turn_type(getattr(kind, which).elem_type)


def _turn_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        turn(tensor, array_of(tensor).astype(np.float32), tensor.name)


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for inner in inner_graphs(node):
        for value in (*inner.output, *inner.value_info):
            value.name = names.get(value.name, value.name)
        for nested in inner.node:
            _rename(nested, names)


def _cast(name: str, made: str, wanted: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [made], name=f"{name}.widened", to=wanted)
