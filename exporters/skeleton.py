"""A model without the bytes of its weights, which is all that onnx's checker and shape inference look at.

Both serialize what they are given: three times the weights in memory, and an error above 2 GB.
"""

import onnx
from onnx import TensorProto, helper

_SMALL = 1024  # elements: constants that hold shapes, axes, scales and the like are read by shape inference


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` in which each large weight of the main graph is an input of its type and shape instead."""
    made = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy(made, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy(made.graph, field.name, value)
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
    _take_shapes(model.graph, inferred(model, strict=strict, data_prop=data_prop).graph)


def check(model: onnx.ModelProto) -> None:
    """onnx's full check of ``model``, of its weights one by one. Raises onnx's ValidationError or InferenceError."""
    onnx.checker.check_model(skeleton(model), full_check=True)
    for tensor in model.graph.initializer:
        if _is_large(tensor):
            onnx.checker.check_tensor(tensor)


def _take_shapes(graph: onnx.GraphProto, found: onnx.GraphProto) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    del graph.value_info[:], graph.output[:]
    graph.value_info.extend(value for value in found.value_info if value.name not in weights)
    graph.output.extend(found.output)
    for node, twin in zip(graph.node, found.node, strict=True):
        for attribute, told in zip(node.attribute, twin.attribute, strict=True):
            if attribute.HasField("g"):
                _take_shapes(attribute.g, told.g)
            for inner, shaped in zip(attribute.graphs, told.graphs, strict=True):
                _take_shapes(inner, shaped)


def _is_large(tensor: TensorProto) -> bool:
    elements = 1
    for axis in tensor.dims:
        elements *= axis
    return elements > _SMALL


def _copy(made: onnx.ModelProto | onnx.GraphProto, field: str, value: object) -> None:
    if isinstance(value, (str, bytes, int)):
        setattr(made, field, value)
    else:
        getattr(made, field).MergeFrom(value)
