"""What a change to a model does to its outputs on real samples: the evidence by which steps are kept or dropped."""

import math

import numpy as np
import numpy.typing as npt
import onnx

from exporters import activations
from exporters.calibration_data import Samples, fixed_batch

_BATCH = 16


class Evidence:
    """The outputs of an fp32 model on some samples, to which versions of it are compared."""

    def __init__(self, model: onnx.ModelProto, samples: Samples) -> None:
        self._samples = samples
        self._right = self._outputs(model)
        self._signal = sum(float(np.square(each).sum()) for each in self._right)

    def sqnr_db(self, model: onnx.ModelProto) -> float:
        """10 log10 of the outputs' power over that of their error, all outputs together; -inf where one is not finite.

        The error counts on one scale, so the outputs should be of one kind.
        """
        found = self._outputs(model)
        noise = sum(float(np.square(a - b).sum()) for a, b in zip(self._right, found, strict=True))
        if not math.isfinite(noise) or not self._signal:
            return -math.inf
        return 10 * math.log10(self._signal / noise) if noise else math.inf

    def _outputs(self, model: onnx.ModelProto) -> list[npt.NDArray[np.float64]]:
        session = activations.open_session(model, threads=activations.usable_cores())
        fixed = fixed_batch(model)
        parts = [
            session.run(None, feeds)
            for feeds in activations.batches(self._samples, fixed or _BATCH, whole=fixed is not None)
        ]
        return [np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True)]
