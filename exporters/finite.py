"""Weights that are NaN or infinite: answers that they reach are NaN, and NaN agrees with NaN whatever is made of it.

A mask of -inf, or NaN as a marker, is no weight: what is added, compared or selected stays as it is.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

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


def require_finite(model: onnx.ModelProto, source: object) -> None:
    """Raise BadModelFile when a weight in ``model``, which errors call ``source``, is not finite."""
    for fault in not_finite(model, source):
        raise fault


def not_finite(model: onnx.ModelProto, source: object) -> Iterator[BadModelFile]:
    """An error, which calls ``model`` ``source``, for each weight that is not finite; those beside it are left out."""
    graphs = list(skeleton.graphs_of(model.graph))
    readers: dict[str, set[str]] = {}
    for node in (node for graph in graphs for node in graph.node):
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    for tensor in (tensor for graph in graphs for tensor in graph.initializer):
        if tensor.data_type not in _FLOATS or not is_there(tensor):
            continue
        nans, infinities = _not_finite(tensor)
        operators = readers.get(tensor.name, set())
        many = elements_of(tensor) > 1 or bool(operators & _WEIGHED)
        bad = (nans if many and operators - _SELECTING else 0) + (infinities if operators & _WEIGHED else 0)
        if bad:
            values = "a value that is" if bad == 1 else f"{bad:,} values that are"
            yield BadModelFile(
                f"The weight '{tensor.name}' in {source} has {values} NaN or infinite.",
                "Give a model whose weights are numbers: the training of this one may have diverged.",
            )


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
