"""fp32 .onnx + calibration samples -> static int8 .onnx (QDQ), on ONNX Runtime's quantizer."""

from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from exporters import calibration, onnx_file
from exporters.artifact import Artifact
from exporters.calibration import BatchReader, Samples
from exporters.int8_preparation import finish, prepared, quiet, refuse_quantized
from exporters.targets import Int8Format

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
_CALIBRATION_BATCH = 32


def convert(src: Path, dst: Path, *, samples: Samples, int8: Int8Format, source: Path | str = "given") -> Artifact:
    """Write ``src``'s static int8 version to ``dst``: weights and activations int8 in QDQ form.

    ``samples`` map each input's name to ``(S, ...)`` real, preprocessed training data; ``source`` is what errors and
    the provenance call them. Every operator that the quantizer knows is quantized: leaving the ones between in fp32
    costs 10 to 60 % of the speed. Ranges are the smallest and largest value seen.

    Raises BadCalibrationData when the samples do not fit the model, BadModelFile when it is int8 already.
    """
    model = onnx_file.load(src)
    refuse_quantized(src, model)
    calibration.check(samples, model, source=source)
    fixed = _fixed_batch(model)
    with prepared(src, model, dst) as (ready, quantized), quiet():
        quantize_static(
            ready,
            quantized,
            BatchReader(samples, batch_size=fixed or _CALIBRATION_BATCH, whole=fixed is not None),
            quant_format=QuantFormat.QDQ,
            per_channel=int8.per_channel,
            reduce_range=int8.reduce_range,
            activation_type=_TYPES[int8.activation],
            weight_type=_TYPES[int8.weight],
            calibrate_method=CalibrationMethod.MinMax,
        )
        return finish(
            quantized,
            src=src,
            dst=dst,
            precision="int8-static",
            wanted_op="QuantizeLinear",
            facts={
                "int8_format": str(int8),
                "calibration_samples": str(len(next(iter(samples.values())))),
                "calibration_sha256": calibration.digest(samples),
            },
            interface=onnx_file.interface_of(model),
        )


def _fixed_batch(model: onnx.ModelProto) -> int | None:
    """The length of the model's batch axis, None where it is dynamic."""
    weights = {tensor.name for tensor in model.graph.initializer}
    fixed = [
        value.type.tensor_type.shape.dim[0].dim_value
        for value in model.graph.input
        if value.name not in weights and value.type.tensor_type.shape.dim
    ]
    return next((size for size in fixed if size), None)
