"""Which calibration method suits which tensor: every method's layers compared at once, the least noise wins."""

import tempfile
from pathlib import Path

from exporters import onnx_file
from exporters.calibration.thresholds import Method
from exporters.feeds import SampleSet
from exporters.int8.static import StaticInt8
from exporters.model_file import ModelFile
from toolchain.layers.damage import damage

_COMPARED: tuple[Method, ...] = ("mse", "minmax", "percentile")
_WORTHWHILE_DB = 0.5  # below it the methods differ by the samples that they are compared on


def methods_by_tensor(ready: StaticInt8, inputs: SampleSet) -> dict[str, Method]:
    """Tensor -> the method that serves the layer that makes it better than the model's own method does.

    One quantized version for each method, and one pass over ``inputs`` for each: a layer's own error does
    not depend on the others', so all are judged at once.
    """
    noise: dict[Method, dict[str, float]] = {}
    reference = ModelFile.of(ready.reference, Path("the fp32 model"))
    with tempfile.TemporaryDirectory(prefix="nnx-methods-") as folder:
        for method in dict.fromkeys((ready.method, *_COMPARED)):
            made = ModelFile.of(ready.plain(method), Path(folder) / f"{method}.onnx")
            onnx_file.save(made.proto, made.path)
            errors = damage(made, reference, inputs)
            noise[method] = {each.output: -each.own_sqnr_db for each in errors if each.own_sqnr_db is not None}
    chosen: dict[str, Method] = {}
    for tensor, own in noise[ready.method].items():
        best = min(noise, key=lambda method: noise[method].get(tensor, own))
        if noise[best].get(tensor, own) < own - _WORTHWHILE_DB:
            chosen[tensor] = best
    return chosen
