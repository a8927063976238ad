"""fp32 .onnx -> dynamic int8 .onnx: int8 weights, activations quantized as they come, no calibration.

ONNX Runtime's quantizer, with its known faults handled:

1. By default it quantizes Conv, whose dynamic kernel (ConvInteger) is 3 to 10 times slower than fp32, and turns the
   opset-23 Attention into an invalid QAttention: the operators are listed here.
2. Its symbolic shape inference takes that Attention for one of its own and fails an assertion: it is left out, onnx's
   inference gives the types that dynamic quantization needs.
3. It transposes the weights of ``Gemm(transB=1)`` and of LSTM in place, once for each node that reads them: where two
   do, the results are noise (-1.4 dB), without a word. Such weights are separated first.
4. A node that is excluded but shares its weight with one that is not computes with the rounded weight: it gets its own.
5. It excludes nodes by the names they have after fusions (MatMul + Add becomes a Gemm of another name): names are
   followed through them.
"""

import tempfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from exporters import cleaning, onnx_file
from exporters.artifact import Artifact
from exporters.errors import BadModelFile, NotApplicable
from exporters.finish import finish
from exporters.int8 import attention_form
from exporters.int8.preparation import MIN_OPSET, preprocess, refuse_quantized, require_int8, successors, translated
from exporters.int8.targets import Int8Format
from exporters.model_file import ModelFile

_OP_TYPES = ("MatMul", "Gemm", "LSTM")
_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
_QUANTIZING_LSTM = "DynamicQuantizeLSTM"  # quantizes its input inside


def convert(src: ModelFile, dst: Path, *, int8: Int8Format, exclude: Collection[str] = ()) -> Artifact:
    """Write ``src``'s dynamic int8 version to ``dst``: MatMul, Gemm and LSTM weights in int8.

    ``exclude`` names nodes of ``src`` to leave in float. Attention is brought to its 3-D form first where it applies;
    the artifact's notes and the file's provenance (``steps``) say so.

    Raises NotApplicable when the model has no such operator, BadModelFile when it is int8 already or has no fp32
    weights, BadOption for a name that is not in the model, NotConvertible when the library fails, WrongResult when
    nothing could be quantized.
    """
    refuse_quantized(src)
    model = src.to_convert(MIN_OPSET)
    _refuse_unfit(src, model, exclude)
    with tempfile.TemporaryDirectory(prefix="nnx-int8-") as folder, translated(src):
        form = attention_form.flattened(model)
        given, steps = (form[0], (f"attention-form: {form[1]}",)) if form else (model, ())
        quantized = _quantized(given, Path(folder), int8, exclude)
    facts = {"int8_format": str(int8), "steps": "; ".join(steps), "float_nodes": ", ".join(sorted(exclude))}
    in_lstm = any(node.op_type == _QUANTIZING_LSTM for node in quantized.graph.node)
    wanted = _QUANTIZING_LSTM if in_lstm else "DynamicQuantizeLinear"
    require_int8(quantized, wanted, src=src, precision="int8-dynamic")
    return finish(quantized, dst, src=src, precision="int8-dynamic", facts=facts, notes=steps)


def _refuse_unfit(src: ModelFile, model: onnx.ModelProto, exclude: Collection[str]) -> None:
    if not any(node.op_type in _OP_TYPES for node in model.graph.node):
        raise NotApplicable(
            f"{src} has no {', '.join(_OP_TYPES)} to quantize dynamically.",
            "Use --mode static with --calibration.",
        )
    if not any(tensor.data_type == TensorProto.FLOAT for tensor in model.graph.initializer):
        raise BadModelFile(f"{src} has no fp32 weights to quantize.", "Give the fp32 model.")
    onnx_file.require_nodes(model, exclude, source=src)


def _quantized(model: onnx.ModelProto, folder: Path, int8: Int8Format, exclude: Collection[str]) -> onnx.ModelProto:
    onnx_file.write(model, folder / "given.onnx")  # of a model in memory it loses the shapes that are constants
    preprocess(folder / "given.onnx", folder / "ready.onnx")
    found = onnx.load(folder / "ready.onnx")
    cleaning.guard(found)
    ready = cleaning.named(found)
    kept = successors(model.graph, ready.graph, exclude)
    _share_no_transposed_weights(ready.graph)
    _separate_weights(ready.graph, kept)
    quantize_dynamic(
        ready,
        folder / "quantized.onnx",
        op_types_to_quantize=list(_OP_TYPES),
        nodes_to_exclude=[*kept, *(f"{name}_MatMul" for name in kept)],  # what it calls a Gemm that it has split
        per_channel=int8.per_channel,
        reduce_range=int8.reduce_range,
        weight_type=_TYPES[int8.weight],
        use_external_data_format=ready.ByteSize() > onnx_file.MAX_BYTES,
    )
    return onnx.load(folder / "quantized.onnx")


def _share_no_transposed_weights(graph: onnx.GraphProto) -> None:
    """Let every ``Gemm(transB=1)`` whose weight is read elsewhere too read a transposed copy, with ``transB=0``."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        turned = next((item for item in node.attribute if item.name == "transB" and item.i), None)
        weight = constants.get(node.input[1]) if node.op_type == "Gemm" and turned else None
        if turned is None or weight is None or reads[weight.name] < 2:
            continue
        name = f"{weight.name}.transposed"
        if name not in constants:
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), name))
            constants[name] = graph.initializer[-1]
        node.input[1], turned.i = name, 0


def _separate_weights(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Give the nodes ``kept`` in float, and each LSTM, weights that no other node reads."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type not in _OP_TYPES or not (node.name in kept or node.op_type == "LSTM"):
            continue
        for index, name in enumerate(node.input):
            if name not in constants or reads[name] < 2:
                continue
            own = f"{name}.float" if node.name in kept else f"{name}.{next(filter(None, node.output))}"
            if own not in constants:
                copy = graph.initializer.add()
                copy.CopyFrom(constants[name])
                copy.name = own
                constants[own] = copy
            node.input[index] = own
