"""Where int8 goes in a graph: QuantizeLinear/DequantizeLinear pairs around each node that is fast in int8."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from exporters import cleaning, onnx_file
from exporters.calibration import taps
from exporters.calibration.thresholds import Range
from exporters.int8.preparation import translated
from exporters.int8.targets import Int8Format

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
_KNOWN_OPS = frozenset({*QDQRegistry, *QLinearOpsRegistry})
_PRODUCTS = ("MatMul", "Gemm")
_AVERAGES = ("AveragePool", "GlobalAveragePool", "ReduceMean")
_SHAPE_OPS = ("Flatten", "Reshape", "Squeeze")


def inserted(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    int8: Int8Format,
    exclude: Collection[str] = (),
    gemm_per_tensor: bool = False,
) -> onnx.ModelProto:
    """``model`` (shapes inferred) with int8 weights, int32 biases and a Q/DQ pair on every activation that ``ranges``
    covers, but for the nodes of ``exclude`` and those of :func:`nodes_in_float`.

    Every other operator that ONNX Runtime has an int8 kernel for takes part: float islands between int8 convolutions
    cost 10 to 60 % of the speed. What one float node hands to another is not rounded on the way. ``gemm_per_tensor``
    gives the weights of a Gemm one scale whatever ``int8`` says.
    """
    onnx_file.require_nodes(model, exclude, source="the model")
    kept = _with_activations(model, {*exclude, *nodes_in_float(model, int8)})
    tensors = {name: (np.float32(each.low), np.float32(each.high)) for name, each in ranges.items()}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    options: dict[str, object] = {"ActivationSymmetric": int8.symmetric, "WeightSymmetric": int8.weight == "int8"}
    if gemm_per_tensor:
        one_scale = [{"quant_type": _TYPES[int8.weight], "symmetric": True, "reduce_range": int8.reduce_range}]
        options["TensorQuantOverrides"] = dict.fromkeys(gemm_weights(model), one_scale)
    if _has_residual_stream(model):
        options["OpTypesToExcludeOutputQuantization"] = list(_PRODUCTS)
    with translated("The model"):
        quantizer = QDQQuantizer(
            copy,
            int8.per_channel,
            int8.reduce_range,
            _TYPES[int8.weight],
            _TYPES[int8.activation],
            TensorsData(CalibrationMethod.MinMax, tensors),
            [],
            sorted(kept),
            sorted(_KNOWN_OPS),
            options,
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    _connect_float_nodes(made.graph, kept)
    made = cleaning.without_dead_parts(made)
    _leave_outputs_unrounded(made.graph, model.graph)
    return cleaning.without_dead_parts(made)


def gemm_weights(model: onnx.ModelProto) -> list[str]:
    """The constants that a Gemm multiplies by."""
    constants = taps.constants_of(model.graph)
    return [node.input[1] for node in model.graph.node if node.op_type == "Gemm" and node.input[1] in constants]


def nodes_in_float(model: onnx.ModelProto, int8: Int8Format) -> list[str]:
    """The names of the nodes that int8 would slow down or blur.

    Those are ``float_ops``, products of two activations (attention's scores, and those times the values: in int8 a
    MiniLM is 1.31 times slower), average pools before the classifier, which must round a mean to the scale of what it
    is the mean of (0.8 dB on a CIFAR-10 net), and in a transformer all but products and convolutions: rounding the
    residual stream to 8 bits after each addition takes a MiniLM from 42 to 24 dB and gains no time.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    residual = _has_residual_stream(model)
    unbounded = {tensor.name for tensor in model.graph.initializer if _holds_infinity(tensor)}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in int8.float_ops
        or (node.op_type == "MatMul" and not constants.intersection(node.input))
        or node.op_type not in _KNOWN_OPS
        or (residual and node.op_type not in (*_PRODUCTS, "Conv"))
        or _is_beyond_the_library(node, int8)
        or unbounded.intersection(node.input)
        or (node.op_type == "Clip" and not taps.merges(node, taps.constants_of(model.graph)))
        or (node.op_type in _AVERAGES and _feeds_classifier(node, model.graph))
    ]


def _holds_infinity(tensor: onnx.TensorProto) -> bool:
    """What masks put before a softmax, and no range of integers holds."""
    return tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(onnx.numpy_helper.to_array(tensor)).all()


def _is_beyond_the_library(node: onnx.NodeProto, int8: Int8Format) -> bool:
    """What ONNX Runtime's quantizer gets wrong: a Gemm with factors of its own, grouped transposed convolutions."""
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Gemm":
        return bool(given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0)
    return node.op_type == "ConvTranspose" and int8.per_channel and given.get("group", 1) > 1


def _feeds_classifier(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Whether only products read ``node``'s output, through whatever changes its shape."""
    pending, readers = [node], list[onnx.NodeProto]()
    while pending:
        made = pending.pop().output[0]
        for reader in graph.node:
            if made in reader.input:
                (pending if reader.op_type in _SHAPE_OPS else readers).append(reader)
    return all(reader.op_type in _PRODUCTS for reader in readers)


def _has_residual_stream(model: onnx.ModelProto) -> bool:
    """Whether the graph is a transformer's: additions that carry a wide range of values from norm to norm."""
    return onnx_file.has_layer_norms(model)


def _with_activations(model: onnx.ModelProto, kept: set[str]) -> set[str]:
    """``kept`` and the Relu or Clip behind each: it is merged into what feeds it."""
    made = {output for node in model.graph.node if node.name in kept for output in node.output}
    return kept | {node.name for node in model.graph.node if node.op_type in ("Relu", "Clip") and node.input[0] in made}


def _connect_float_nodes(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Let float nodes read what float nodes made, and not its rounded copy, which the quantizer gives to all readers.

    What an int8 node made stays behind its Q/DQ pair: a second, float reader would keep it from running in int8.
    """
    makers = {output: node for node in graph.node for output in node.output}
    rounded: dict[str, str] = {}  # the output of a DequantizeLinear -> the float that was rounded
    for node in graph.node:
        source = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if source is not None and source.op_type == "QuantizeLinear" and _in_float(makers.get(source.input[0]), kept):
            rounded[node.output[0]] = source.input[0]
    for node in graph.node:
        if _in_float(node, kept) and node.op_type != "QuantizeLinear":
            for index, name in enumerate(node.input):
                node.input[index] = rounded.get(name, name)


def _leave_outputs_unrounded(graph: onnx.GraphProto, original: onnx.GraphProto) -> None:
    """Products have int8 kernels with a float result: a last rounding of the outputs costs 1 dB on a CIFAR-10 net.

    Where a Relu or a Clip made the output in ``original``, the rounding does its work and stays.
    """
    products = {output for node in original.node if node.op_type in _PRODUCTS for output in node.output}
    makers = {output: node for node in graph.node for output in node.output}
    for value in graph.output:
        rounded = makers.get(value.name)
        if (
            value.name not in products
            or rounded is None
            or rounded.op_type != "DequantizeLinear"
            or rounded.input[0] not in makers
        ):
            continue
        rounding = makers[rounded.input[0]]
        product = makers.get(rounding.input[0])
        read = [name for node in graph.node for name in node.input]
        alone = read.count(value.name) == 0 and read.count(rounding.input[0]) == 1
        if product is not None and product.op_type in _PRODUCTS and alone:
            product.output[0] = value.name
            graph.node.remove(rounded)
            graph.node.remove(rounding)


def _in_float(node: onnx.NodeProto | None, kept: Collection[str]) -> bool:
    """Whether ``node`` computes in float; a graph's input, which has no node, does."""
    return node is None or node.name in kept or node.op_type not in _KNOWN_OPS
