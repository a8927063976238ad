"""A model without the bytes of its weights, which is all that onnx's checker and shape inference look at.

Both serialize what they are given: three times the weights in memory, and an error above 2 GB.
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

from exporters import operators
from exporters.external_data import copy_fields
from exporters.large_weights import is_stub
from exporters.tensors import elements_of

SMALL = 1024
"""Elements: constants that hold shapes, axes, scales and the like are read by shape inference."""
FOREIGN = "onnxruntime.in.onnx"
"""The domain that operators have here which ONNX Runtime keeps in ONNX's."""


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` in which each large weight of the main graph is an input of its type and shape instead."""
    made = onnx.ModelProto()
    copy_fields(model, made, without="graph")
    copy_fields(model.graph, made.graph, without="initializer")
    _rename_foreign(made)
    declared = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if not _is_large(tensor):
            made.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            made.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return made


def inferred(model: onnx.ModelProto, *, strict: bool = False, data_prop: bool = True) -> onnx.ModelProto:
    """The :func:`skeleton` of ``model`` with the types and shapes that onnx's inference tells, in nested graphs too.

    Raises onnx.shape_inference.InferenceError where it contradicts itself and, if ``strict``, where an operator's
    types cannot be told.
    """
    return onnx.shape_inference.infer_shapes(skeleton(model), strict_mode=strict, data_prop=data_prop)


def add_shapes(model: onnx.ModelProto, *, strict: bool = False, data_prop: bool = True) -> None:
    """Put what :func:`inferred` tells into ``model`` itself. Raises as it does."""
    take_shapes(model.graph, inferred(model, strict=strict, data_prop=data_prop).graph)


def shaped(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` itself, its shapes told anew."""
    add_shapes(model, data_prop=False)
    return model


def check(model: onnx.ModelProto) -> None:
    """onnx's full check of ``model``, and of its weights one by one but for those that lie elsewhere.

    Raises onnx's ValidationError or InferenceError.
    """
    onnx.checker.check_model(skeleton(model), full_check=True)
    for tensor in model.graph.initializer:
        if _is_large(tensor) and not is_stub(tensor):
            onnx.checker.check_tensor(tensor)


def take_shapes(graph: onnx.GraphProto, found: onnx.GraphProto, *, nested: bool = False) -> None:
    """Give ``graph`` the types and shapes of ``found``, the same graph after inference; nested graphs too.

    ONNX Runtime's symbolic inference gives an If whose else comes first its then twice: what is not the same graph
    tells nothing. An output of a nested graph that states no type goes without one: inference tells no shape where
    branches differ in rank, and takes an If of which one branch states a type and the other does not for an error.
    """
    if _made(graph) != _made(found):
        return
    weights = {tensor.name for tensor in graph.initializer}
    # onnx wants a shape of each output, which inference may lose
    outputs = [
        new if new.type.tensor_type.HasField("shape") and not (nested and not old.HasField("type")) else old
        for old, new in zip(graph.output, found.output, strict=True)
    ]
    del graph.value_info[:], graph.output[:]
    graph.value_info.extend(value for value in found.value_info if value.name not in weights)
    graph.output.extend(outputs)
    for node, twin in zip(graph.node, found.node, strict=True):
        for attribute, told in zip(node.attribute, twin.attribute, strict=True):
            if attribute.HasField("g"):
                take_shapes(attribute.g, told.g, nested=True)
            for inner, shaped in zip(attribute.graphs, told.graphs, strict=True):
                take_shapes(inner, shaped, nested=True)


def _made(graph: onnx.GraphProto) -> list[str]:
    return [*(value.name for value in graph.output), *(name for node in graph.node for name in node.output)]


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """``graph`` and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)
            for inner in attribute.graphs:
                yield from graphs_of(inner)


def _rename_foreign(model: onnx.ModelProto) -> None:
    """Give the operators that ONNX Runtime keeps in ONNX's domain one of their own: ONNX takes them for errors."""
    opsets = operators.opsets_of(model)
    for graph in graphs_of(model.graph):
        for node in graph.node:
            if not node.domain and not operators.is_onnx(node, opsets) and operators.definition(node, opsets):
                node.domain = FOREIGN
    if not any(entry.domain == FOREIGN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(FOREIGN, 1))


def _is_large(tensor: TensorProto) -> bool:
    return elements_of(tensor) > SMALL
