"""Bias correction: what quantizing shifts in the mean of each channel is taken back through the biases, in sequence.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2, with means
measured on samples. Each layer's shift is measured with all earlier layers corrected: corrected all at once they lose 1
to 3 dB instead of gaining 0.5 to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from exporters import feeds, onnx_file
from exporters.batch_axes import BatchAxes
from exporters.calibration import activations
from exporters.calibration.activations import DEFAULT_MEMORY_BUDGET
from exporters.calibration.data import Samples
from exporters.int8.segments import Segments
from exporters.large_weights import array_of, tensor_of

_CORRECTED = ("Conv", "Gemm")
_BIAS = 2  # the place of the bias among the inputs of both
Floats = npt.NDArray[np.float64]


@dataclass
class _ChannelMeans:
    """The mean of each channel, the second axis, over all others."""

    sums: Floats | None = None
    count: int = 0

    def add(self, values: npt.NDArray[Any], *, name: str) -> None:
        del name
        if values.ndim < 2 or not values.size:
            return
        axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        sums = values.sum(axis=axes, dtype=np.float64)
        self.sums = sums if self.sums is None else self.sums + sums
        self.count += values.size // values.shape[1]

    def merge(self, other: "_ChannelMeans") -> None:
        if other.sums is not None:
            self.sums = other.sums if self.sums is None else self.sums + other.sums
            self.count += other.count

    @property
    def means(self) -> Floats | None:
        """None where nothing was seen."""
        return None if self.sums is None else self.sums / self.count


@dataclass(frozen=True)
class Correction:
    """Node name -> what its bias gets added, ``(channels,)``."""

    shifts: Mapping[str, Floats] = field(default_factory=dict)

    def applied_to(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of the fp32 ``model`` with changed biases; a node without one gets one."""
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        values = {tensor.name: tensor for tensor in copy.graph.initializer}
        for node in copy.graph.node:
            if node.name not in self.shifts:
                continue
            shift = self.shifts[node.name]
            has_bias = len(node.input) > _BIAS and node.input[_BIAS]
            old = array_of(values[node.input[_BIAS]]) if has_bias else np.zeros(len(shift), np.float32)
            own = f"{node.name}.corrected_bias"  # of its own: a bias may be shared
            copy.graph.initializer.append(tensor_of((old + shift).astype(np.float32), own))
            del node.input[_BIAS:]
            node.input.append(own)
        return copy


def measure(
    model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    samples: Samples,
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Correction:
    """The correction of ``quantized``, the QDQ version of ``model``, over ``samples``; 16 of them are enough.

    The graph is run once, layer by layer, each from the corrected outputs of those before it, so that it takes no more
    time than a pass of inference, and as much memory as the widest cut of the graph has for ``samples``. Where they
    take several calls these go in step. Graphs with If or Loop, and those with sequences inside, are left as they are.
    """
    if onnx_file.has_subgraphs(model) or not all(
        value.type.HasField("tensor_type") for value in (*model.graph.value_info, *model.graph.output)
    ):
        return Correction()
    biases = {tensor.name for tensor in model.graph.initializer}
    layers = {
        node.name: node.output[0]
        for node in model.graph.node
        if node.op_type in _CORRECTED and (len(node.input) <= _BIAS or node.input[_BIAS] in biases)
    }
    right = activations.fold(
        model, samples, tensors=list(layers.values()), make=_ChannelMeans, memory_budget=memory_budget
    )
    axes = BatchAxes.of_inputs(model)
    calls = list(feeds.calls(samples, axes, feeds.count_of(samples, axes)))
    walk = Segments(quantized, calls)
    shifts: dict[str, Floats] = {}
    for node in quantized.graph.node:
        if node.name not in layers or node.op_type not in _CORRECTED:
            continue
        outputs = walk.until(node)
        found = _ChannelMeans()
        for output in outputs:
            found.add(output, name=node.name)
        wanted, got = right[layers[node.name]].means, found.means
        if wanted is None or got is None:
            continue
        shifts[node.name] = shift = wanted - got
        for output in outputs:
            output += shift.astype(output.dtype).reshape(1, -1, *([1] * (output.ndim - 2)))
    return Correction(shifts)
