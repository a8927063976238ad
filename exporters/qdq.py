"""Where int8 goes in a graph: QuantizeLinear/DequantizeLinear pairs around each node that is fast in int8."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from exporters.errors import BadOption
from exporters.targets import Int8Format
from exporters.thresholds import Range

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}


def inserted(
    model: onnx.ModelProto, ranges: Mapping[str, Range], *, int8: Int8Format, exclude: Collection[str] = ()
) -> onnx.ModelProto:
    """``model`` (shapes inferred) with int8 weights, int32 biases and a Q/DQ pair on every activation that ``ranges``
    covers, but for the nodes of ``exclude`` and those that ``int8`` leaves in float.

    Every operator that ONNX Runtime has an int8 kernel for takes part: float islands between int8 convolutions cost
    10 to 60 % of the speed.
    """
    names = [node.name for node in model.graph.node]
    if missing := sorted(set(exclude) - set(names)):
        raise BadOption(f"The model has no node named {', '.join(missing)}.", "List the nodes with `nnx explain`.")
    kept = {*exclude, *nodes_in_float(model, int8)}
    tensors = {name: (np.float32(each.low), np.float32(each.high)) for name, each in ranges.items()}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    quantizer = QDQQuantizer(
        copy,
        int8.per_channel,
        int8.reduce_range,
        _TYPES[int8.weight],
        _TYPES[int8.activation],
        TensorsData(CalibrationMethod.MinMax, tensors),
        [],
        sorted(kept),
        sorted({*QDQRegistry, *QLinearOpsRegistry}),
        {"ActivationSymmetric": int8.symmetric, "WeightSymmetric": int8.weight == "int8"},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    return made


def nodes_in_float(model: onnx.ModelProto, int8: Int8Format) -> list[str]:
    """The names of the nodes that int8 would slow down or blur: products of two activations, and ``float_ops``."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in int8.float_ops
        # the scores of an attention, and their product with the values: 1.31 times slower in int8 on a MiniLM
        or (node.op_type == "MatMul" and not constants.intersection(node.input))
    ]
