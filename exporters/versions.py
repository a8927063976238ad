"""The IR version that a file is written for, where what is in the model allows it."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

from exporters import onnx_file
from exporters.errors import BadOption
from exporters.tensors import all_tensors

TYPES_SINCE = {
    "BFLOAT16": 4, "FLOAT8E4M3FN": 9, "FLOAT8E4M3FNUZ": 9, "FLOAT8E5M2": 9, "FLOAT8E5M2FNUZ": 9, "INT4": 10,
    "UINT4": 10, "FLOAT4E2M1": 11, "FLOAT8E8M0": 12, "INT2": 13, "UINT2": 13,
}  # fmt: skip
"""The IR version with which a type came: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto."""
_SAYS_TYPES = {"to", "dtype", "output_dtype"}


def set_ir(model: onnx.ModelProto, version: int) -> None:
    """Let ``model`` have this IR version. Raises BadOption where something in it came later."""
    for least, what in _needs(model):
        if version < least:
            raise BadOption(
                f"IR {version} does not have {what}, which came with IR {least}.", f"Ask for {least} or more."
            )
    if version > onnx.IR_VERSION:
        raise BadOption(f"There is no IR {version}.", f"onnx {onnx.__version__} knows {onnx.IR_VERSION} at most.")
    model.ir_version = version


def _needs(model: onnx.ModelProto) -> Iterator[tuple[int, str]]:
    """What is in ``model``, with the IR version that it wants."""
    for entry in model.opset_import:
        if not entry.domain:
            yield helper.find_min_ir_version_for([entry], ignore_unknown=True), f"opset {entry.version}"
    used = {tensor.data_type for tensor in all_tensors(model)}
    for graph in onnx_file.graphs_of(model):
        values = (*graph.input, *graph.output, *graph.value_info)
        used |= {value.type.tensor_type.elem_type for value in values}
        said = (attribute for node in graph.node for attribute in node.attribute if attribute.name in _SAYS_TYPES)
        used |= {attribute.i for attribute in said}
        if graph.sparse_initializer:
            yield 6, "sparse weights"
        if graph.quantization_annotation:
            yield 5, "quantization annotations"
        if graph.metadata_props or any(node.metadata_props for node in graph.node):
            yield 10, "metadata of nodes (--strip drops it)"
    declared = {value.name for value in model.graph.input}
    if any(tensor.name not in declared for tensor in model.graph.initializer):
        yield 4, "weights that are no inputs"
    if model.functions:
        yield 8, "functions of the model's own"
    for name, least in TYPES_SINCE.items():
        if getattr(TensorProto, name) in used:
            yield least, name
