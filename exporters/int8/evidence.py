"""What a change to a model does to its outputs on real samples: the evidence by which steps are kept or dropped."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from exporters import feeds, large_weights
from exporters.batch_axes import BatchAxes
from exporters.calibration import activations
from exporters.calibration.data import Samples
from exporters.processors import usable_cores

_BATCH = 16


class Evidence:
    """An fp32 model and some samples, on which versions of it are compared with it, a call at a time."""

    def __init__(self, model: onnx.ModelProto, samples: Samples) -> None:
        self._samples, self._axes = samples, BatchAxes.of_inputs(model)
        session = activations.open_session(model, threads=usable_cores())
        large = large_weights.has_stubs(model)  # its outputs take less than a session beside others
        self._kept = list(self._given_by(session)) if large else None
        self._session: Any = None if large else session

    def __getstate__(self) -> dict[str, Any]:
        """For another process: sessions stay here, what they gave goes along."""
        kept = list(self._given_by(self._session)) if self._session else self._kept
        return vars(self) | {"_session": None, "_kept": kept}

    def sqnr_db(self, model: onnx.ModelProto) -> float:
        """10 log10 of the outputs' power over that of their error, all outputs together; -inf where one is not finite.

        The error counts on one scale, so the outputs should be of one kind. Only tensors of floats count; one of
        another shape is all error, and infinity that both have is neither.
        """
        signal = noise = 0.0
        wanted = self._given_by(self._session) if self._session else iter(self._kept or ())
        for outputs, others in zip(
            wanted, self._given_by(activations.open_session(model, threads=usable_cores())), strict=True
        ):
            for right, found in zip(outputs, others, strict=True):
                if isinstance(right, np.ndarray) and np.issubdtype(right.dtype, np.floating):
                    power, error = _powers(right, found)
                    signal, noise = signal + power, noise + error
        if not (math.isfinite(noise) and math.isfinite(signal)) or not signal:
            return -math.inf
        return 10 * math.log10(signal / noise) if noise else math.inf

    def _given_by(self, session: onnxruntime.InferenceSession) -> Iterator[list[npt.NDArray[Any]]]:
        for call in feeds.calls(self._samples, self._axes, _BATCH):
            yield activations.run(session, None, call)


def _powers(right: npt.NDArray[Any], found: npt.NDArray[Any]) -> tuple[float, float]:
    """(The signal's, the error's), each a sum of squares."""
    wanted = np.asarray(right, np.float64)
    if np.shape(found) != wanted.shape:
        power = float(np.square(wanted[np.isfinite(wanted)]).sum())
        return power, power
    with np.errstate(invalid="ignore"):
        differing = np.where(np.isinf(wanted) & (wanted == found), 0.0, wanted - found)
    return float(np.square(np.where(np.isinf(wanted), 0.0, wanted)).sum()), float(np.square(differing).sum())
