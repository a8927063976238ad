"""Weights that are NaN or infinite: answers that they reach are NaN, and NaN agrees with NaN whatever is made of it.

A mask of -inf, or NaN as a marker, is no weight: what is added, compared or selected stays as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from exporters import skeleton
from exporters.errors import BadModelFile
from exporters.large_weights import array_of, is_there
from exporters.tensors import elements_of

_WEIGHED = {
    "MatMul", "Gemm", "Conv", "ConvTranspose", "DeformConv", "LSTM", "GRU", "RNN", "PRelu", "FusedMatMul", "FusedConv",
    "FusedGemm", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization",
    "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    "EmbedLayerNormalization",
}  # fmt: skip
"""Operators none of whose inputs may be infinite for a reason."""
_SELECTING = {"Where", "Equal", "IsNaN", "If", "Loop", "Scan"}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class NotFinite:
    """A weight, and how many of its values are NaN or infinite."""

    name: str
    values: int

    def __str__(self) -> str:
        values = "a value that is" if self.values == 1 else f"{self.values:,} values that are"
        return f"{values} NaN or infinite"


def require_finite(model: onnx.ModelProto, source: object) -> None:
    """Raise BadModelFile when a weight in ``model``, which errors call ``source``, is not finite."""
    for found in not_finite(model):
        raise BadModelFile(
            f"The weight '{found.name}' in {source} has {found}.",
            "Give a model whose weights are numbers: the training of this one may have diverged.",
        )


def not_finite(model: onnx.ModelProto) -> Iterator[NotFinite]:
    """Each weight that is not finite, of functions and inner graphs too; those beside the file are left out."""
    graphs = list(skeleton.graphs_of(model.graph))
    for function in model.functions:
        graphs += skeleton.graphs_of(onnx.GraphProto(node=function.node))
    readers: dict[str, set[str]] = {}
    for node in (node for graph in graphs for node in graph.node):
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    for name, tensor in (pair for graph in graphs for pair in _constants(graph)):
        if tensor.data_type not in _FLOATS or not is_there(tensor):
            continue
        nans, infinities = _not_finite(tensor)
        operators = readers.get(name, set())
        many = elements_of(tensor) > 1 or bool(operators & _WEIGHED)
        bad = (nans if many and operators - _SELECTING else 0) + (infinities if operators & _WEIGHED else 0)
        if bad:
            yield NotFinite(name, bad)


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.output:
            for each in node.attribute:
                if each.name == "value":
                    yield node.output[0], each.t
                elif each.name == "value_floats":
                    yield node.output[0], numpy_helper.from_array(np.array(each.floats, np.float32))


def _not_finite(tensor: TensorProto) -> tuple[int, int]:
    """How many values are NaN, and how many infinite."""
    values = array_of(tensor).reshape(-1)
    nans = infinities = 0
    for start in range(0, values.size, _CHUNK):  # a mask as large as the weights is memory that a large model needs
        part = values[start : start + _CHUNK]
        if not np.isfinite(part).all():
            nans += int(np.isnan(part).sum())
            infinities += int(np.isinf(part).sum())
    return nans, infinities
