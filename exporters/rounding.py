"""Weights in 8 bits, symmetric, a scale for each slice."""

import numpy as np
import numpy.typing as npt

from exporters.weights import Array

FULL, REDUCED = 127, 64
"""The largest magnitudes: of 8 bits, and of the 7 whose products cannot saturate pairs at 16 bits (255 * 64 * 2)."""
Rounded = tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]


def rounded(values: Array, axes: tuple[int, ...] | None, largest: int = FULL) -> Rounded:
    """``values`` as int8 and scales that broadcast to them: one for each slice along ``axes``, or one for all."""
    reach = np.abs(values).max(axis=axes, keepdims=True).astype(np.float32)
    scales = (reach / np.float32(largest)).astype(np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1.0  # all zeros, or all so small that their scale would vanish
    return np.clip(np.rint(values / scales), -largest, largest).astype(np.int8), scales
