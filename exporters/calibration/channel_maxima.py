"""The largest magnitude of each channel of some activations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from exporters.calibration import activations
from exporters.calibration.data import Samples


@dataclass
class _Maxima:
    axis_of: Mapping[str, int]
    values: npt.NDArray[np.float64] | None = None
    uneven: bool = False
    """The channels are not the same ones in all calls."""

    def add(self, values: npt.NDArray[Any], *, name: str) -> None:
        if not -values.ndim <= self.axis_of[name] < values.ndim:
            self.uneven = True
            return
        channels = self.axis_of[name] % values.ndim
        axes = tuple(axis for axis in range(values.ndim) if axis != channels)
        self._take(np.maximum(values.max(axis=axes), -values.min(axis=axes)).astype(np.float64))

    def merge(self, other: "_Maxima") -> None:
        self.uneven |= other.uneven
        if other.values is not None:
            self._take(other.values)

    def _take(self, found: npt.NDArray[np.float64]) -> None:
        if self.values is not None and self.values.shape != found.shape:
            self.uneven = True
        else:
            self.values = found if self.values is None else np.maximum(self.values, found)


def channel_maxima(
    model: onnx.ModelProto, samples: Samples, axis_of: Mapping[str, int], *, memory_budget: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Tensor name -> ``(C,)``, for the tensors of ``axis_of``, which tells the axis of each one's channels.

    One that was never seen, or has not the same channels in all calls, is left out.
    """
    found = activations.fold(
        model, samples, tensors=list(axis_of), make=lambda: _Maxima(axis_of), memory_budget=memory_budget
    )
    return {name: each.values for name, each in found.items() if each.values is not None and not each.uneven}
