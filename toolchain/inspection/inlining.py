"""A model without local functions, whose bodies have no shapes and no operations of their own until then."""

import contextlib
from collections.abc import Iterator

import onnx
from onnx import helper, inliner

from exporters.operators import opsets_of
from toolchain.inspection.nodes import name_of

_ERRORS = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` itself where it has none, or where onnx cannot: bodies of another operator set are converted."""
    if not model.functions:
        return model
    if any(_imports(function) - {opsets_of(model)[""], 0} for function in model.functions):
        with contextlib.suppress(*_ERRORS):
            return inliner.inline_local_functions(_typed(model), convert_version=True)
    with contextlib.suppress(*_ERRORS):
        return inliner.inline_local_functions(model)
    return model


def callers_in(model: onnx.ModelProto, inlined: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """(A node of a function's body in ``inlined``, the node of ``model`` that called it), which stand in one order."""
    functions = {(function.domain, function.name) for function in model.functions}
    if not functions:
        return
    bodies = iter(inlined.graph.node)
    for node in model.graph.node:
        missing = set(filter(None, node.output))
        while missing and (body := next(bodies, None)) is not None:
            missing -= set(body.output)
            if (node.domain, node.op_type) in functions and body != node:
                yield name_of(body), name_of(node)


def _imports(function: onnx.FunctionProto) -> set[int]:
    return {opsets_of(onnx.ModelProto(opset_import=function.opset_import))[""]}


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the type of every tensor, those of weights too: onnx converts nothing else."""
    declared = onnx.ModelProto()
    declared.CopyFrom(model)
    known = {value.name for value in (*model.graph.input, *model.graph.value_info)}
    for tensor in model.graph.initializer:
        if tensor.name not in known:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            declared.graph.value_info.append(value)
    return onnx.shape_inference.infer_shapes(declared)
