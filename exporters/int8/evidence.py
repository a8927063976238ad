"""What a change to a model does to its outputs on real samples: the evidence by which steps are kept or dropped."""

import math

import numpy as np
import onnx

from exporters import onnx_file
from exporters.calibration import activations
from exporters.calibration.data import Samples
from exporters.processors import usable_cores

_BATCH = 16


class Evidence:
    """An fp32 model and some samples, on which versions of it are compared with it, a batch at a time."""

    def __init__(self, model: onnx.ModelProto, samples: Samples) -> None:
        self._samples, self._fixed = samples, onnx_file.fixed_batch_of(model)
        self._session = activations.open_session(model, threads=usable_cores())

    def sqnr_db(self, model: onnx.ModelProto) -> float:
        """10 log10 of the outputs' power over that of their error, all outputs together; -inf where one is not finite.

        The error counts on one scale, so the outputs should be of one kind.
        """
        other = activations.open_session(model, threads=usable_cores())
        signal = noise = 0.0
        for feeds in activations.batches(self._samples, self._fixed or _BATCH, whole=self._fixed is not None):
            for right, found in zip(
                activations.run(self._session, None, feeds), activations.run(other, None, feeds), strict=True
            ):
                wanted = np.asarray(right, np.float64)
                signal += float(np.square(wanted).sum())
                noise += float(np.square(wanted - found).sum())
        if not (math.isfinite(noise) and math.isfinite(signal)) or not signal:
            return -math.inf
        return 10 * math.log10(signal / noise) if noise else math.inf
