"""Calibration samples: what they must be like, and their digest."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx

from exporters import onnx_file
from exporters.batch_axes import BatchAxes, Shape
from exporters.errors import BadCalibrationData
from exporters.feeds import Array, SampleArray, SampleSet, count_of, fits, is_shared, run_alone

Samples = SampleSet
"""As :data:`exporters.feeds.SampleSet`; an array may be memory-mapped, and is read in parts."""
_PART_BYTES = 16_000_000
_MEND = "Save the samples as the model takes them, preprocessing included."


def check(
    samples: Samples,
    model: onnx.ModelProto,
    *,
    source: Path | str,
    tell: Callable[[str], None] = lambda sentence: None,
) -> str:
    """The SHA-256 of the samples' names, types, shapes and bytes, once they are found to fit ``model``.

    Raises BadCalibrationData unless they fit its inputs in name, dtype and shape, and hold no NaN. Infinity may be
    meant, as in masks: ``tell`` hears of it. Each byte is read once, in parts.
    """
    names = set(onnx_file.interface_of(model)[0])
    wanted = {value.name: value.type for value in model.graph.input if value.name in names}
    axes = BatchAxes.of_inputs(model)
    if set(samples) != set(wanted):
        raise BadCalibrationData(
            f"The calibration data {source} has the arrays {sorted(samples)}, the model wants {sorted(wanted)}.",
            "Save one array per model input, under the input's name.",
        )
    for name, kind in wanted.items():
        _check_type(name, samples[name], kind, source)
        _check_shape(name, samples[name], axes, source)
    _check_counts(samples, axes, source)
    state = hashlib.sha256()
    infinite = set()
    for name, part in _in_parts(samples):
        state.update(f"{name} {part.dtype} {part.shape};".encode())
        if part.dtype == object:
            state.update(repr(part.tolist()).encode())
            continue
        if np.issubdtype(part.dtype, np.floating) and not np.isfinite(part).all():
            infinite.add(name)
            if np.isnan(part).any():
                raise BadCalibrationData(
                    f"The calibration array '{name}' in {source} holds NaN.", "Remove those samples."
                )
        if part.size:
            state.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    for name in sorted(infinite):
        tell(f"The array '{name}' in {source} holds infinity: right for a mask, else look at the samples.")
    return state.hexdigest()


def _in_parts(samples: Samples) -> Iterator[tuple[str, Array]]:
    """Input name -> what fits the memory of it, one part after the other; what samples share comes once."""
    for name in sorted(samples):
        array = samples[name]
        if not isinstance(array, np.ndarray):
            yield from ((name, each) for each in array)
        elif not array.ndim or array.strides[0] == 0:
            yield name, array if not array.ndim else array[:1]
        else:
            rows = max(1, _PART_BYTES // max(array[:1].nbytes, 1))
            yield from ((name, array[start : start + rows]) for start in range(0, len(array), rows))


def _check_counts(samples: Samples, axes: BatchAxes, source: Path | str) -> None:
    counts = {name: len(array) for name, array in samples.items() if not is_shared(array, name, axes)}
    if len(set(counts.values())) > 1 or not all(counts.values()):
        raise BadCalibrationData(
            f"The calibration data {source} has these numbers of samples: {counts}.",
            "Give every input the same number, at least one.",
        )
    count = count_of(samples, axes)
    if axes.fixed is not None and not run_alone(samples, axes) and count < axes.fixed:
        raise BadCalibrationData(
            f"{source} has {count} samples, and the model takes {axes.fixed} at a time.", "Give at least as many."
        )


def _check_type(name: str, array: SampleArray, kind: onnx.TypeProto, source: Path | str) -> None:
    if not kind.HasField("tensor_type"):
        raise BadCalibrationData(
            f"The model's input '{name}' is no tensor, and {source} can hold tensors only.",
            "Let the model take its parts as inputs of their own.",
        )
    wanted = onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
    for each in [array] if isinstance(array, np.ndarray) else array:
        fits = each.dtype.kind in "OUS" if wanted == np.dtype(object) else each.dtype == wanted
        if not fits:
            what = "strings" if wanted == np.dtype(object) else wanted
            raise BadCalibrationData(
                f"The calibration array '{name}' in {source} is {each.dtype}, the model wants {what}.", _MEND
            )


def _check_shape(name: str, array: SampleArray, axes: BatchAxes, source: Path | str) -> None:
    """Whether each sample fits the input, with or without its batch axis."""
    shape, axis = axes.shapes[name], axes.inputs[name]
    if shape is None:
        return
    if is_shared(array, name, axes):
        fit = isinstance(array, np.ndarray) and fits(array.shape, shape)
    else:
        one = shape if axis is None else (*shape[:axis], *shape[axis + 1 :])
        given = [array.shape[1:]] if isinstance(array, np.ndarray) and array.ndim else []
        given = given if isinstance(array, np.ndarray) else [each.shape for each in array]
        fit = bool(given) and all(fits(each, one) or (axis is not None and fits(each, shape)) for each in given)
    if not fit:
        raise BadCalibrationData(
            f"The calibration array '{name}' in {source} is {_described(array)}, the model wants {_listed(shape)}"
            f"{_sample_rule(shape, axis)}.",
            _MEND,
        )


def _sample_rule(shape: Shape, axis: int | None) -> str:
    """What an array of samples is like, where that is not the input's own shape."""
    if axis is None:
        return f": one such value for all samples, or {_listed(('samples', *shape))}"
    if axis:
        return f": {_listed(('samples', *shape[:axis], *shape[axis + 1 :]))}, the first axis counting samples"
    return ""


def _described(array: SampleArray) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype}{list(array.shape)}"
    return f"{len(array)} samples, the first {array[0].dtype}{list(array[0].shape)}" if len(array) else "no samples"


def _listed(shape: Shape) -> str:
    return f"[{', '.join(str(axis) for axis in shape)}]"
