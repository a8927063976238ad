"""fp32 .onnx -> bf16 .onnx: weights stored in bfloat16, half the bytes, with fp32's range.

ONNX Runtime 1.31's CPU provider has no bfloat16 kernel for MatMul, Gemm, Conv, Add, Mul, Relu, Sigmoid or a reduction:
a graph of bfloat16 arithmetic does not load there. So each weight is a bfloat16 initializer with a Cast to fp32 behind
it, which is standard ONNX from opset 13, loads wherever fp32 does, and is folded when a session opens: the arithmetic,
its speed and the memory of the session are fp32's. Nothing overflows: bfloat16 keeps fp32's 8 bits of exponent.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from exporters import cleaning, onnx_file
from exporters.artifact import Artifact
from exporters.errors import NotApplicable
from exporters.finish import finish, sparing
from exporters.large_weights import array_of
from exporters.model_file import ModelFile

NOTE = "bf16 saves bytes; the weights are cast when a session opens and the arithmetic stays fp32"
_MIN_OPSET = 13  # the first whose Cast takes bfloat16
_MIN_ELEMENTS = 64  # below, the Cast takes about as many bytes as the smaller weight saves
_SUFFIX = ".bf16"
_INFINITY = 0x7F800000


@sparing
def convert(src: ModelFile, dst: Path, *, keep_fp32: Collection[str] = ()) -> Artifact:
    """Write ``src`` to ``dst`` with its weights in bfloat16, rounded to nearest even; inputs and outputs stay fp32.

    The weights of the nodes named in ``keep_fp32`` stay fp32, and so do weights of under 64 elements.

    Raises BadModelFile for a file that is not fp32, BadOption for a node that is not there,
    NotApplicable when no weight is left to convert.
    """
    src.require_fp32()
    model = src.to_convert(_MIN_OPSET)
    onnx_file.require_nodes(model, keep_fp32, source=src)
    kept = {name for node in model.graph.node if node.name in keep_fp32 for name in node.input}
    kept |= cleaning.overridable(model)
    chosen = [tensor for tensor in model.graph.initializer if tensor.name not in kept and _pays(tensor)]
    if not chosen:
        raise NotApplicable(
            f"{src} has no fp32 weight of at least {_MIN_ELEMENTS} elements to store in bf16.", "Ship the fp32 model."
        )
    casts = [_store(tensor) for tensor in chosen]
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    facts = {"fp32_nodes": ", ".join(sorted(keep_fp32))}
    return finish(model, dst, src=src, precision="bf16", facts=facts, notes=(NOTE,))


def rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """``values`` as bfloat16 bits: the upper half of fp32's, rounded to nearest, ties to even; NaN stays NaN."""
    bits = values.view(np.uint32)
    nearest = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    is_nan = (bits & 0x7FFFFFFF) > _INFINITY
    return np.where(is_nan, (bits >> 16) | 0x40, nearest).astype(np.uint16)


def _pays(tensor: TensorProto) -> bool:
    """Large enough, and free of values between bfloat16's largest and fp32's, which would round to infinity."""
    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _MIN_ELEMENTS:
        return False
    values = array_of(tensor)
    return bool((((rounded(values) & 0x7FFF) == _INFINITY >> 16) <= np.isinf(values)).all())


def _store(tensor: TensorProto) -> onnx.NodeProto:
    """Turn ``tensor``; return the Cast that gives it back, under its name, to all who read it."""
    name, dims = tensor.name, list(tensor.dims)
    bits = rounded(array_of(tensor)).astype("<u2")
    stored = helper.make_tensor(name + _SUFFIX, TensorProto.BFLOAT16, dims, bits.tobytes(), raw=True)
    tensor.CopyFrom(stored)
    return helper.make_node("Cast", [stored.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
