"""Scaling between layers for nets whose channels differ wildly, before int8 quantization. The function stays the same.

int8 activations share one scale per tensor while weights have one per output channel. Where one channel reaches 800
times further than the next, the small one is left with a fraction of a level. What makes the tensor is divided, channel
by channel, by s and what reads it is multiplied by s:

1. Conv -> [Relu] -> Conv: cross-layer equalization (Nagel et al. 2019, section 4.1). Relu passes positive scales, and
   padding with zeros does too; Clip (Relu6) and HardSwish do not.
2. LayerNormalization -> MatMul or Gemm: SmoothQuant (Xiao et al. 2022, equation 4).

s = activation_max ** alpha / weight_max ** (1 - alpha) shares the difficulty between both sides. A depthwise Conv has
its own scale for each input channel already, so there all of it moves to the weights at no cost: alpha is 1.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from exporters import onnx_file
from exporters.errors import BadCalibrationData
from exporters.large_weights import array_of, tensor_of

Floats = npt.NDArray[np.floating]

WORTHWHILE_SPREAD = 8.0
"""From here on a pair is worth its scaling: a quarter of its channels leave 3 of the 8 bits unused.

The trained digits net, which plain int8 serves well, measures 2.4 and 2.6.
"""
_LARGEST_SCALE = 1e3
"""Beyond it, a channel that the calibration data hardly wakes would saturate at a thousandth of the tensor's range."""
_SMALLEST_WEIGHT = 1e-5
"""Share of the largest weight below which a channel's weights count as this, for channels that nothing reads."""
_PASSES_SCALES = ("Relu", "LeakyRelu")
_BALANCED, _ALL_TO_WEIGHTS = 0.5, 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A tensor to be quantized, the node whose constants set its channels' scales, and all the nodes that read it.

    ``axis`` is the tensor's channel axis; ``alpha`` is the share of the spread that moves to the readers' weights.
    """

    tensor: str
    axis: int
    producer: onnx.NodeProto
    consumers: tuple[onnx.NodeProto, ...]
    alpha: float


def pairs(model: onnx.ModelProto) -> list[Pair]:
    """The places in ``model`` where scales can move, in the graph's order; BatchNorm must be folded already."""
    constants = _Constants(model)
    producers = {output: node for node in model.graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = (_pair(tensor, producers, read_by, constants) for tensor, read_by in readers.items())
    return [pair for pair in found if pair is not None]


def spread(maxima: Floats) -> float:
    """The largest of the channels' ``maxima`` ``(C,)`` over their lower quartile; channels that are always 0 apart.

    Not over the smallest: in most nets some channel hardly ever fires, and nothing is lost with it.
    """
    live = maxima[maxima > 0]
    return float(live.max() / np.quantile(live, 0.25, method="lower")) if live.size else 1.0


def equalized(model: onnx.ModelProto, channel_maxima: Mapping[str, Floats]) -> tuple[onnx.ModelProto, str] | None:
    """A copy of ``model`` with its uneven pairs scaled, and a sentence about it; None when no pair is worth it.

    ``channel_maxima`` maps ``Pair.tensor`` to the largest magnitude ``(C,)`` of each channel over the calibration data;
    a pair without an entry is left alone. Raises BadCalibrationData for maxima that do not fit the tensor.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = _Constants(copy)
    spreads: list[tuple[float, float]] = []
    for pair in pairs(copy):
        if pair.tensor not in channel_maxima:
            continue
        maxima = _checked(pair, channel_maxima[pair.tensor], constants)
        before = spread(maxima)
        if before < WORTHWHILE_SPREAD:
            continue
        scales = _scales(pair, maxima, constants)
        after = spread(maxima / scales)
        if after < before:  # else the weights are as uneven as the activations, in the same channels
            _apply(pair, scales, constants)
            _rename(copy.graph, {pair.producer.output[0], pair.tensor})
            spreads.append((before, after))
    if not spreads:
        return None
    count = f"{len(spreads)} pair{'s' if len(spreads) > 1 else ''} of layers"
    before, after = (max(values) for values in zip(*spreads, strict=True))
    return copy, f"equalized {count}; widest spread of channel maxima {before:.3g}x -> {after:.3g}x"


class _Constants:
    """The fp32 initializers of a model's main graph, which nodes may change without disturbing each other."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        # one that is a graph input too may be replaced by whoever runs the model
        inputs = {value.name for value in model.graph.input}
        self._tensors = {
            tensor.name: tensor
            for tensor in model.graph.initializer
            if tensor.data_type == TensorProto.FLOAT and tensor.name not in inputs
        }
        self.reads = Counter(name for graph in onnx_file.graphs_of(model) for node in graph.node for name in node.input)
        self.reads.update(value.name for graph in onnx_file.graphs_of(model) for value in graph.output)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].dims)

    def array(self, name: str) -> npt.NDArray[np.float32]:
        return np.array(array_of(self._tensors[name]))

    def change(self, node: onnx.NodeProto, index: int, array: Floats) -> None:
        """Set ``node``'s input ``index``, under a name of its own where others read the old one."""
        name = node.input[index]
        if self.reads[name] > 1:
            self.reads[name] -= 1
            name = node.input[index] = f"{name}.{node.output[0]}.equalized"
            self.reads[name] = 1
            self._tensors[name] = self._graph.initializer.add()
        self._tensors[name].CopyFrom(tensor_of(array.astype(np.float32), name))


def _pair(
    tensor: str,
    producers: Mapping[str, onnx.NodeProto],
    consumers: list[onnx.NodeProto],
    constants: _Constants,
) -> Pair | None:
    """``tensor`` as a Pair when its producer can be divided and every node that reads it can be multiplied."""
    source, producer = tensor, producers.get(tensor)
    if producer is not None and producer.op_type in _PASSES_SCALES and constants.reads[producer.input[0]] == 1:
        source = producer.input[0]
        producer = producers.get(source)
    # more reads than consumers: the tensor is an output, or nested graphs read it
    if producer is None or producer.output[0] != source or constants.reads[tensor] != len(consumers):
        return None
    channels = _channels_made(producer, constants)
    convolves = producer.op_type == "Conv"
    if channels is None or any(
        (node.op_type == "Conv") != convolves
        or node.input[0] != tensor
        or tensor in node.input[1:]  # Gemm(x, weight, x)
        or _channels_read(node, constants) != channels
        for node in consumers
    ):
        return None
    depthwise = convolves and all(constants.shape(node.input[1])[1] == 1 for node in consumers)
    return Pair(
        tensor=tensor,
        axis=1 if convolves else -1,
        producer=producer,
        consumers=tuple(consumers),
        alpha=_ALL_TO_WEIGHTS if depthwise else _BALANCED,
    )


def _channels_made(node: onnx.NodeProto, constants: _Constants) -> int | None:
    """How many channels the constants of a Conv or LayerNormalization set; None for what cannot be divided."""
    names = [name for name in node.input[1:] if name]
    if node.op_type not in ("Conv", "LayerNormalization") or not all(name in constants for name in names):
        return None
    shapes = [constants.shape(name) for name in names]
    if node.op_type == "LayerNormalization" and any(len(shape) != 1 for shape in shapes):
        return None  # it normalizes several axes together
    return shapes[0][0] if len({shape[0] for shape in shapes}) == 1 else None


def _channels_read(node: onnx.NodeProto, constants: _Constants) -> int | None:
    """How many input channels the weight of a Conv, MatMul or Gemm takes; None for what cannot be multiplied."""
    if node.op_type not in ("Conv", "MatMul", "Gemm") or node.input[1] not in constants:
        return None
    shape = constants.shape(node.input[1])
    if node.op_type == "Conv":
        return shape[1] * _attribute(node, "group", 1)
    if len(shape) != 2 or _attribute(node, "transA", 0):
        return None
    return shape[1] if _attribute(node, "transB", 0) else shape[0]


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


def _by_input_channel(node: onnx.NodeProto, weight: Floats) -> Floats:
    """A view ``(groups, outputs of a group, inputs of a group, taps)`` of a contiguous weight."""
    if node.op_type != "Conv":
        return (weight if _attribute(node, "transB", 0) else weight.T)[np.newaxis, :, :, np.newaxis]
    groups = _attribute(node, "group", 1)
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _checked(pair: Pair, maxima: Floats, constants: _Constants) -> npt.NDArray[np.float64]:
    channels = _channels_made(pair.producer, constants)
    if maxima.shape != (channels,) or not np.isfinite(maxima).all() or (maxima < 0).any():
        raise BadCalibrationData(
            f"The channel maxima of '{pair.tensor}' are not {channels} finite magnitudes.",
            f"Collect one for each channel along axis {pair.axis}, over samples without NaN and infinity.",
        )
    return maxima.astype(np.float64)


def _scales(pair: Pair, maxima: npt.NDArray[np.float64], constants: _Constants) -> npt.NDArray[np.float64]:
    """s ``(C,)`` with a geometric mean of 1, so that the tensor as a whole keeps its size; 1 where it is always 0."""
    of_nodes = [
        np.abs(_by_input_channel(node, constants.array(node.input[1]))).max(axis=(1, 3)).ravel()
        for node in pair.consumers
    ]
    weights = np.max(of_nodes, axis=0).astype(np.float64)
    weights = np.maximum(weights, max(_SMALLEST_WEIGHT * weights.max(), np.finfo(np.float32).tiny))
    live = maxima > 0
    logs = pair.alpha * np.log(maxima[live]) - (1 - pair.alpha) * np.log(weights[live])
    scales = np.ones_like(maxima)
    scales[live] = np.exp(logs - logs.mean())
    return np.clip(scales, 1 / _LARGEST_SCALE, _LARGEST_SCALE)


def _apply(pair: Pair, scales: npt.NDArray[np.float64], constants: _Constants) -> None:
    """Divide what ``pair.producer`` makes by ``scales``, and multiply its readers' weights by them."""
    for index, name in enumerate(pair.producer.input):
        if index > 0 and name:  # weight or scale, and bias where there is one: channels are the first axis of each
            array = constants.array(name)
            constants.change(pair.producer, index, array / scales.reshape(-1, *[1] * (array.ndim - 1)))
    for node in pair.consumers:
        weight = constants.array(node.input[1])
        by_channel = _by_input_channel(node, weight)
        by_channel *= scales.reshape(by_channel.shape[0], 1, -1, 1)
        constants.change(node, 1, weight)


def _rename(graph: onnx.GraphProto, tensors: set[str]) -> None:
    """Scaled tensors are other tensors: nobody may compare them with those of the same name in the original."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in tensors:
                    names[index] = f"{name}.equalized"
    for value in graph.value_info:
        if value.name in tensors:
            value.name += ".equalized"
