"""Calibration samples: what they must be like, and their digest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from exporters import onnx_file
from exporters.errors import BadCalibrationData

Samples = Mapping[str, npt.NDArray[np.generic]]
"""Input name -> array whose first axis counts samples; it may be memory-mapped, and is read in parts."""
_PART_BYTES = 16_000_000


def count_of(samples: Samples) -> int:
    """How many samples there are."""
    return len(next(iter(samples.values())))


def check(samples: Samples, model: onnx.ModelProto, *, source: Path | str) -> str:
    """The SHA-256 of the samples' names, types, shapes and bytes, once they are found to fit ``model``.

    Raises BadCalibrationData unless they fit its inputs in name, dtype and shape, and are finite. Each byte is read
    once, in parts.
    """
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
    fixed, count = onnx_file.fixed_batch_of(model), count_of(samples)
    if fixed is not None and count < fixed:
        raise BadCalibrationData(
            f"{source} has {count} samples, and the model takes {fixed} at a time.", "Give at least as many."
        )
    state = hashlib.sha256()
    for name, tensor in sorted(wanted.items()):
        array = samples[name]
        _check_shape(name, array, tensor, source)
        state.update(f"{name} {array.dtype} {array.shape};".encode())
        rows = max(1, _PART_BYTES // max(array[:1].nbytes, 1))
        for start in range(0, len(array), rows):
            part = np.ascontiguousarray(array[start : start + rows])
            if np.issubdtype(part.dtype, np.floating) and not np.isfinite(part).all():
                raise BadCalibrationData(
                    f"The calibration array '{name}' in {source} holds NaN or infinity.", "Remove those samples."
                )
            state.update(part.data)
    return state.hexdigest()


def _check_shape(name: str, array: npt.NDArray[np.generic], tensor: onnx.TypeProto.Tensor, source: Path | str) -> None:
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
