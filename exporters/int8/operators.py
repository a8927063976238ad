"""What each operator is to static int8: which rounding it takes part in, and in which way."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from exporters.large_weights import array_of
from exporters.operators import attribute

PRODUCTS = ("MatMul", "Gemm")
"""Products of matrices, whose int8 kernels can also give a float result."""
WEIGHTED = ("Conv", "ConvTranspose", *PRODUCTS)
ACTIVATIONS = ("Relu", "Clip")
"""Merged into the rounding of what feeds them, where that can do their work."""
SHAPES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
FOLLOWING = (*SHAPES, "Resize", "MaxPool", "AveragePool", "Slice", "Gather")
"""Where their input is rounded their output is, at the same scale; where it is not they compute in float."""
PARTING = ("Split", "Pad")
"""Round their input, and their outputs at the same scale."""
ELEMENTWISE = ("Add", "Mul", "Concat", "LeakyRelu", "Sigmoid", "GlobalAveragePool", "Softmax")
"""Round all that they read and make, each at a scale of its own."""
CHOOSING = ("Where",)
"""Round their output where both of their inputs are rounded."""
KNOWN = frozenset({*WEIGHTED, *ACTIVATIONS, *FOLLOWING, *PARTING, *ELEMENTWISE, *CHOOSING})
"""All that ONNX Runtime's CPU provider runs in int8, or moves in int8 between those that it does."""
EXPONENTIALS = frozenset({"Softmax", "LogSoftmax", "Exp", "ReduceLogSumExp", "ReduceLogSum", "Softplus"})
"""An error before them is multiplied by what they make of it: ``exp(x + e) = exp(x) * exp(e)``."""


def is_known(node: onnx.NodeProto) -> bool:
    """Whether int8 has a place for ``node``."""
    return node.op_type in KNOWN and node.domain in ("", "ai.onnx")


def weight_axis(node: onnx.NodeProto, dims: int) -> int | None:
    """The axis of the output channels in a weight of ``dims`` axes; None where one scale must do for all.

    ONNX Runtime takes a scale for each column of a matrix but of no stack of them, and has no way to give a grouped
    ConvTranspose's channels, which lie along two axes, scales of their own.
    """
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if dims == 2 else None


def bias_of(node: onnx.NodeProto) -> str:
    """The name of the bias of a Conv, ConvTranspose or Gemm; empty without one."""
    return node.input[2] if node.op_type != "MatMul" and len(node.input) > 2 else ""


def pads_at_the_same_scale(node: onnx.NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether a Pad puts in zeros, which every range holds, or values of its input."""
    if attribute(node, "mode", b"constant") != b"constant":
        return True
    if len(node.input) < 3 or not node.input[2]:
        return True
    return node.input[2] in constants and not array_of(constants[node.input[2]]).any()


def overshoots(node: onnx.NodeProto) -> bool:
    """Whether a Resize gives values beyond those that it reads."""
    return node.op_type == "Resize" and attribute(node, "mode", b"nearest") == b"cubic"


def is_roundable(tensor: TensorProto) -> bool:
    """Whether a constant is made of finite fp32 numbers, at least one."""
    if tensor.data_type != TensorProto.FLOAT:
        return False
    values = array_of(tensor)
    return bool(values.size) and bool(np.isfinite(values).all())
