"""Feeding calibration samples to ONNX Runtime's calibrator, checked against the model first."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader

from exporters.errors import BadCalibrationData

Samples = Mapping[str, npt.NDArray[np.generic]]
"""Input name -> array whose first axis counts samples."""


class BatchReader(CalibrationDataReader):  # type: ignore[misc]
    """Hands out ``samples`` in batches; nothing but views of the arrays is kept.

    With ``whole`` an incomplete batch at the end is left out, for models whose batch is fixed.
    """

    def __init__(self, samples: Samples, *, batch_size: int, whole: bool) -> None:
        count = len(next(iter(samples.values())))
        if whole and count >= batch_size:
            count -= count % batch_size
        self._batches: Iterator[dict[str, npt.NDArray[np.generic]]] = (
            {name: np.ascontiguousarray(array[start : start + batch_size]) for name, array in samples.items()}
            for start in range(0, count, batch_size)
        )

    def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
        return next(self._batches, None)


def check(samples: Samples, model: onnx.ModelProto, *, source: Path | str) -> None:
    """Raise BadCalibrationData unless ``samples`` fit ``model``'s inputs in name, dtype, shape, and are finite."""
    weights = {tensor.name for tensor in model.graph.initializer}
    wanted = {value.name: value.type.tensor_type for value in model.graph.input if value.name not in weights}
    if set(samples) != set(wanted):
        raise BadCalibrationData(
            f"The calibration data {source} has the arrays {sorted(samples)}, the model wants {sorted(wanted)}.",
            "Save one array per model input, under the input's name.",
        )
    counts = {name: len(array) if array.ndim else 0 for name, array in samples.items()}
    if len(set(counts.values())) != 1 or not all(counts.values()):
        raise BadCalibrationData(
            f"The calibration data {source} has these numbers of samples: {counts}.",
            "Give every input the same number, at least one.",
        )
    for name, tensor in wanted.items():
        _check_array(name, samples[name], tensor, source)


def digest(samples: Samples) -> str:
    """The SHA-256 of the samples' names, dtypes, shapes and bytes."""
    state = hashlib.sha256()
    for name, array in sorted(samples.items()):
        state.update(f"{name} {array.dtype} {array.shape};".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def _check_array(name: str, array: npt.NDArray[np.generic], tensor: onnx.TypeProto.Tensor, source: Path | str) -> None:
    wanted = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    axes = [axis.dim_value or axis.dim_param or "?" for axis in tensor.shape.dim]
    fits = len(axes) == array.ndim and all(
        not isinstance(axis, int) or axis == length for axis, length in zip(axes[1:], array.shape[1:], strict=False)
    )
    if array.dtype != wanted or not fits:
        raise BadCalibrationData(
            f"The calibration array '{name}' in {source} is {array.dtype}{list(array.shape)}, "
            f"the model wants {wanted}{axes}.",
            "Save the samples as the model takes them, preprocessing included.",
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise BadCalibrationData(
            f"The calibration array '{name}' in {source} holds NaN or infinity.", "Remove those samples."
        )
