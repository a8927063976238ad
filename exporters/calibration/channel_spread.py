"""How much each channel of some activations varies, around a mean of its own."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from exporters.calibration import activations
from exporters.calibration.data import Samples

Floats = npt.NDArray[np.float64]
_LEAST_VALUES = 16
_NOISE = 1e-14
"""Of the largest square: less is how fp32 itself rounds."""


class _Moments:
    """The sums of the values and of their squares for each channel of one axis, from the end where that is negative."""

    def __init__(self) -> None:
        self.count: npt.NDArray[np.int64] | None = None
        self.sums: Floats = np.zeros(0)
        self.squares: Floats = np.zeros(0)
        self.uneven = False

    def add(self, values: npt.NDArray[Any], axis: int) -> None:
        if values.ndim < 2:
            self.uneven = True
            return
        channels = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).astype(np.float64)
        channels = np.where(np.isfinite(channels), channels, 0.0)
        count = np.full(len(channels), channels.shape[1])
        self._take(count, channels.sum(1), np.square(channels).sum(1))

    def merge(self, other: "_Moments") -> None:
        self.uneven |= other.uneven
        if other.count is not None:
            self._take(other.count, other.sums, other.squares)

    def _take(self, count: npt.NDArray[np.int64], sums: Floats, squares: Floats) -> None:
        if self.count is None:
            self.count, self.sums, self.squares = count, sums, squares
        elif self.count.shape != count.shape:
            self.uneven = True
        else:
            self.count, self.sums, self.squares = self.count + count, self.sums + sums, self.squares + squares

    def variances(self) -> Floats:
        """Of the channels that vary; none where they are not the same ones in all calls, or were hardly seen."""
        if self.uneven or self.count is None or self.count.min(initial=_LEAST_VALUES) < _LEAST_VALUES:
            return np.zeros(0)
        mean_squares = self.squares / self.count
        found = mean_squares - np.square(self.sums / self.count)
        varying: Floats = found[found > _NOISE * mean_squares.max(initial=0.0)]
        return varying


@dataclass
class _Spread:
    def __post_init__(self) -> None:
        self.axes = {1: _Moments(), -1: _Moments()}

    def add(self, values: npt.NDArray[Any], *, name: str) -> None:
        del name
        for axis, moments in self.axes.items():
            moments.add(values, axis)

    def merge(self, other: "_Spread") -> None:
        for axis, moments in self.axes.items():
            moments.merge(other.axes[axis])


def least_variances(
    model: onnx.ModelProto, samples: Samples, tensors: Collection[str], *, memory_budget: int
) -> dict[str, float]:
    """Tensor name -> the variance of the channel that varies least, of the second and the last axis.

    Channels that do not vary at all do not count; a tensor without channels is left out.
    """
    found = activations.fold(model, samples, tensors=list(tensors), make=_Spread, memory_budget=memory_budget)
    variances = {name: [m.variances() for m in each.axes.values()] for name, each in found.items()}
    return {
        name: float(min(each.min() for each in known if each.size))
        for name, known in variances.items()
        if any(each.size for each in known)
    }
