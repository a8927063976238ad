"""Constants in int8: scales, zero points and the integers themselves, bit for bit as ONNX Runtime's quantizer has them.

    real = scale * (integer - zero_point)

Weights are symmetric int8, one scale for each output channel or one for all; biases are int32 at the scale of the
products that they are added to; the constants of elementwise operators are stored as activations are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.calibration.thresholds import Range

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

_LIMITS = {
    ("int8", False): (-128, 127),
    ("int8", True): (-127, 127),
    ("uint8", False): (0, 255),
    ("uint8", True): (0, 255),
}
_WEIGHT_STEPS, _REDUCED_WEIGHT_STEPS = 254.0, 128.0  # from -127 to 127, or from -64 to 64
_INT32_STEPS = 2.0 * np.iinfo(np.int32).max
_BIAS_MARGIN = 1.0001


@dataclass(frozen=True, eq=False)
class Scaling:
    """``scale`` and ``zero_point``, of shape () or, along ``axis``, (channels,)."""

    scale: Floats
    zero_point: Array
    axis: int | None = None


def of_activation(found: Range, dtype: str, *, symmetric: bool) -> Scaling:
    """The scaling of what lies in ``found``, which holds 0."""
    least, most = _LIMITS[dtype, symmetric]
    low, high = np.float64(np.float32(found.low)), np.float64(np.float32(found.high))
    if symmetric:
        high = max(-low, high)
        low = -high
    scale = (high - low) / (most - least)
    if scale < np.finfo(np.float32).tiny:  # all zeros, which any scale keeps
        return Scaling(np.array(1, np.float32), np.array(0, dtype))
    zero = np.round((least + most) / 2) if symmetric else np.round(least - low / scale)
    return Scaling(np.array(scale, np.float32), np.array(zero, dtype))


def of_constant(values: Array, dtype: str, *, symmetric: bool) -> Scaling:
    """The scaling of a constant that an elementwise operator reads."""
    return of_activation(
        Range(min(float(values.min()), 0.0), max(float(values.max()), 0.0)), dtype, symmetric=symmetric
    )


def of_weight(values: Array, *, axis: int | None, reduce_range: bool) -> Scaling:
    """The symmetric scaling of a weight; ``reduce_range`` keeps it in 7 bits."""
    others = tuple(each for each in range(values.ndim) if each != axis) if axis is not None else None
    largest = np.abs(values.astype(np.float64)).max(axis=others, initial=0.0)
    scale = 2 * largest / (_REDUCED_WEIGHT_STEPS if reduce_range else _WEIGHT_STEPS)
    scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale).astype(np.float32)
    return Scaling(scale, np.zeros(scale.shape, np.int8), axis)


def widened(weight: Scaling, biases: Iterable[tuple[Floats, Array]]) -> Scaling:
    """``weight`` with scales large enough for each (scale of the input, bias) that is added to its products.

    A bias is stored in 32 bits at the scale of the products. One that is huge beside them would be cut off.
    """
    scale = weight.scale.copy()
    for input_scale, bias in biases:
        largest = np.abs(bias.astype(np.float64))
        if weight.axis is None:
            largest = largest.max(initial=0.0)
        least = _BIAS_MARGIN * 2 * largest / _INT32_STEPS
        have = np.float64(input_scale) * scale.astype(np.float64)
        small = (have < least) & (have > 0)
        scale = np.where(small, scale * (least / np.where(have > 0, have, 1.0)), scale).astype(np.float32)
    return Scaling(scale, weight.zero_point, weight.axis)


def rounded(values: Array, scaling: Scaling) -> Array:
    """The integers of ``values``."""
    shape = [1] * values.ndim
    if scaling.axis is not None:
        shape[scaling.axis] = -1
    scale, zero = scaling.scale.reshape(shape or ()), scaling.zero_point.reshape(shape or ())
    limits = np.iinfo(scaling.zero_point.dtype)
    exact = np.round(values.astype(np.float32) / scale) + zero.astype(np.float32)
    clipped: Array = np.clip(exact, limits.min, limits.max).astype(scaling.zero_point.dtype)
    return clipped


def of_bias(input_scale: Floats, weight: Scaling) -> Scaling:
    """The scaling of a bias that is added to the products of an input and ``weight``."""
    scale = np.asarray(input_scale * weight.scale, np.float32)
    return Scaling(scale, np.zeros(scale.shape, np.int32), 0 if scale.ndim else None)


def rounded_bias(values: Array, scaling: Scaling) -> Array:
    """The int32 of a bias ``(channels,)``."""
    limits = np.iinfo(np.int32)
    exact = np.round(values.astype(np.float64) / scaling.scale.astype(np.float64))
    return np.clip(exact, limits.min, limits.max).astype(np.int32)
