"""ONNX Runtime's quantizers as its documentation has them: pre-process, then quantize.

Where pre-processing fails they get the model as it is. Each is called in a process of its own, and returns 0.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from exporters.feeds import calls
from exporters.model_file import ModelFile


def dynamic(model: Path, made: Path) -> int:
    ready = _pre_processed(model, made)
    quantize_dynamic(ready, made)
    return 0


def static(model: Path, made: Path) -> int:
    """QDQ with a scale a channel, on ``calibration.npz`` beside ``made``."""
    ready = _pre_processed(model, made)
    samples = _Reader(model, made.with_name("calibration.npz"))
    quantize_static(ready, made, samples, quant_format=QuantFormat.QDQ, per_channel=True)
    return 0


def _pre_processed(model: Path, made: Path) -> Path:
    ready = made.with_suffix(".ready")
    try:
        quant_pre_process(model, ready)
    except Exception as error:  # noqa: BLE001 - it raises what it likes
        print(f"pre-processing failed: {error}", file=sys.stderr)
        return model
    return ready


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, model: Path, samples: Path) -> None:
        with np.load(samples) as arrays:
            self._calls = calls(dict(arrays), ModelFile(model).batch_axes, 1)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._calls, None)
