"""LSTM with integer products inside, and the weights of those that have no such kernel."""

import numpy as np
import onnx
from onnx import helper

from exporters.int8.targets import Int8Format
from exporters.operators import attributes_of
from exporters.rounding import FULL, REDUCED, rounded
from exporters.weights import CONTRIB, Array, Names, Scope, Weight, is_standard

OPERATORS = ("LSTM", "GRU", "RNN")
WEIGHTS = (1, 2)
"""Where a node has what it multiplies its input and its state by: ``(directions, gates * hidden, inputs)``."""
_LSTM_INPUTS = 8
_OTHER_RUNTIMES = ("cuda", "tensorrt", "openvino")
"""Targets that have standard operators only, or where those are faster."""


def weights_of(node: onnx.NodeProto, scope: Scope) -> tuple[Weight, Weight] | None:
    """The constant weights of a recurrent ``node``; None for another, or where one is computed."""
    if not is_standard(node, *OPERATORS):
        return None
    first, second = (scope.find(node.input[index]) for index in WEIGHTS)
    if first is None or second is None or not first.is_float or not second.is_float:
        return None
    return (first, second) if len(first.shape) == len(second.shape) == 3 and first.size and second.size else None


def has_kernel(node: onnx.NodeProto, int8: Int8Format) -> bool:
    """Whether ONNX Runtime's CPU provider, if ``int8`` is for that, has a quantizing form of ``node``: it has none with
    the batch before the time.
    """
    return node.op_type == "LSTM" and not attributes_of(node).get("layout", 0) and int8.target not in _OTHER_RUNTIMES


def quantized(node: onnx.NodeProto, weights: tuple[Weight, Weight], int8: Int8Format, names: Names) -> onnx.NodeProto:
    """``node``, an LSTM of constant ``weights``, as ONNX Runtime's DynamicQuantizeLSTM.

    Each has weights of its own: onnxruntime 1.31 reads those that two of them share from packed memory that is another
    layout by then (14.6 dB for 39.7), or fails to load the file.
    """
    first, second = (_store(weight, int8, names) for weight in weights)
    rest = [node.input[index] if index < len(node.input) else "" for index in range(3, _LSTM_INPUTS)]
    given = attributes_of(node)
    given.pop("layout", None)
    inputs = [node.input[0], first[0], second[0], *rest, *first[1:], *second[1:]]
    return helper.make_node("DynamicQuantizeLSTM", inputs, list(node.output), name=node.name, domain=CONTRIB, **given)


def _store(weight: Weight, int8: Int8Format, names: Names) -> list[str]:
    """The names of ``weight`` in int8 ``(directions, inputs, gates * hidden)``, its scales and its zero points."""
    values, scales = rounded(
        weight.values(), (2,) if int8.per_channel else (1, 2), REDUCED if int8.reduce_range else FULL
    )
    shape = scales.shape[: 2 if int8.per_channel else 1]
    parts: dict[str, Array] = {
        "int8": np.ascontiguousarray(values.transpose(0, 2, 1)),
        "scales": scales.reshape(shape),
        "zero_points": np.zeros(shape, np.int8),
    }
    return [weight.owner.add(names.fresh(f"{weight.name}.{part}"), value) for part, value in parts.items()]
