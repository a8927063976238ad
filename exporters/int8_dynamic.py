"""fp32 .onnx -> dynamic int8 .onnx: int8 weights, activations quantized as they come, no calibration."""

from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from exporters import onnx_file
from exporters.artifact import Artifact
from exporters.errors import NotApplicable
from exporters.int8_preparation import finish, prepared, quiet, refuse_quantized
from exporters.targets import Int8Format

# Conv is left alone: its dynamic kernel (ConvInteger) is 3 to 10 times slower than fp32. Attention too: the quantizer
# turns the opset-23 operator of that name into an invalid QAttention.
_OP_TYPES = ("MatMul", "Gemm", "LSTM")
_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}


def convert(src: Path, dst: Path, *, int8: Int8Format) -> Artifact:
    """Write ``src``'s dynamic int8 version to ``dst``: MatMul, Gemm and LSTM weights in int8.

    Raises NotApplicable when the model has none of these, BadModelFile when it is int8 already.
    """
    model = onnx_file.load(src)
    refuse_quantized(src, model)
    if not any(node.op_type in _OP_TYPES for node in model.graph.node):
        raise NotApplicable(
            f"{src} has no {', '.join(_OP_TYPES)} to quantize dynamically.",
            "Use --mode static with --calibration.",
        )
    with prepared(src, model, dst) as (ready, quantized), quiet():
        quantize_dynamic(
            ready,
            quantized,
            op_types_to_quantize=list(_OP_TYPES),
            per_channel=int8.per_channel,
            reduce_range=int8.reduce_range,
            weight_type=_TYPES[int8.weight],
        )
        return finish(
            quantized,
            src=src,
            dst=dst,
            precision="int8-dynamic",
            wanted_op="DynamicQuantizeLinear",
            facts={"int8_format": str(int8)},
            interface=onnx_file.interface_of(model),
        )
