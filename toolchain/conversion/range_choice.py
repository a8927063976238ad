"""Which calibration method suits which tensor: every method's layers compared at once, the least noise wins."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from exporters import onnx_file
from exporters.calibration.thresholds import Method
from exporters.feeds import SampleSet
from exporters.int8.static import StaticInt8
from exporters.model_file import ModelFile
from toolchain.layers.damage import damage

_COMPARED: tuple[Method, ...] = ("mse", "minmax", "percentile")
_WORTHWHILE_DB = 0.5  # below it the methods differ by the samples that they are compared on


def compared(own: Method) -> tuple[Method, ...]:
    """The methods that are compared, the model's ``own`` first."""
    return tuple(dict.fromkeys((own, *_COMPARED)))


def noise_by(method: Method, ready: StaticInt8, inputs: SampleSet) -> dict[str, float]:
    """Tensor -> the noise of the layer that makes it, in dB, where all ranges are by ``method``.

    One quantized version, and one pass over ``inputs``: a layer's own error does not depend on the others', so all are
    judged at once.
    """
    reference = ModelFile.of(ready.reference, Path("the fp32 model"))
    with tempfile.TemporaryDirectory(prefix="nnx-methods-") as folder:
        made = ModelFile.of(ready.plain(method), Path(folder) / f"{method}.onnx")
        onnx_file.save(made.proto, made.path)
        errors = damage(made, reference, inputs)
    return {each.output: -each.own_sqnr_db for each in errors if each.own_sqnr_db is not None}


def best_by_tensor(noise: Mapping[Method, Mapping[str, float]]) -> dict[str, Method]:
    """Tensor -> the method that serves it clearly better than the first of ``noise``, the model's own."""
    chosen: dict[str, Method] = {}
    for tensor, own in next(iter(noise.values()), {}).items():
        best = min(noise, key=lambda method: noise[method].get(tensor, own))
        if noise[best].get(tensor, own) < own - _WORTHWHILE_DB:
            chosen[tensor] = best
    return chosen
