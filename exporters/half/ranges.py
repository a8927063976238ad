"""What each activation does on real data as half precision would see it, and which nodes that rules out.

Half precision has 11 significant bits between 2**-14 and 65504. Below, its steps stay 2**-24 wide, and what is at most
2**-25 becomes 0. Whether a tensor fits is therefore read off the binary exponents of its values: counting them is
exact, costs the same for any number of samples, and does not depend on the batches they came in.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from exporters import onnx_file, skeleton
from exporters.calibration import activations, taps
from exporters.calibration.activations import DEFAULT_MEMORY_BUDGET
from exporters.calibration.data import Samples
from exporters.large_weights import array_of

MAX_HALF = float(np.finfo(np.float16).max)
OVERFLOW_MARGIN = 2.0
"""How far beyond the largest value seen the data in use is allowed to go."""
MIN_SQNR_DB = 40.0
"""What half precision must keep of a tensor: an error of 1 % of its values, the tolerance of fp16's parity. Tensors
whose values lie between 2**-14 and 65504 have about 75 dB."""

_CHUNK = 1 << 16  # values at a time: the intermediate arrays stay in the cache
_BIAS = 127  # of the exponent in fp32
_EXPONENTS = np.arange(256) - _BIAS
_MAGNITUDE, _INFINITY = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
# A value that becomes 0 makes these infinite, or loses what they would have made of it.
_HURT_BY_ZERO = {("Log", 0), ("Reciprocal", 0), ("Sqrt", 0), ("Pow", 0), ("Div", 1)}
# What these sum up inside, as the operator that gives the sum itself. ONNX does not say in which type they add up
# (it does for LayerNormalization: stash_type, fp32), so their sums must fit too.
_INNER_SUM = {
    "ReduceSum": "ReduceL1",
    "ReduceMean": "ReduceL1",
    "ReduceL2": "ReduceSumSquare",
    "GlobalAveragePool": "GlobalLpPool",
}
_INNER = "/inner sum"


@dataclass
class HalfRange:
    """What one fp32 tensor did: its largest finite magnitude, and how many values had each binary exponent.

    ``exponents`` counts by fp32's 8 biased bits: the first entry is zero, the last infinity and NaN.
    """

    largest: float = 0.0
    exponents: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))

    def add(self, values: npt.NDArray[Any], *, name: str = "") -> None:
        """Take in one batch of any shape."""
        bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
        for start in range(0, bits.size, _CHUNK):
            magnitude = bits[start : start + _CHUNK] & _MAGNITUDE
            self.exponents += np.bincount((magnitude >> 23).astype(np.uint8), minlength=256)
            finite = magnitude[magnitude < _INFINITY]  # fp32 magnitudes are in the order of their bits
            self.largest = max(self.largest, float(finite.max(initial=0).astype(np.uint32).view(np.float32)))

    def merge(self, other: "HalfRange") -> None:
        """Take in what another has seen."""
        self.largest = max(self.largest, other.largest)
        self.exponents += other.exponents

    @property
    def overflows(self) -> bool:
        return self.largest * OVERFLOW_MARGIN > MAX_HALF

    @property
    def vanishing(self) -> float:
        """The share of the values other than zero that half precision turns to zero: those under 2**-25."""
        nonzero = int(self.exponents[1:255].sum())
        return float(self.exponents[1 : _BIAS - 25].sum()) / nonzero if nonzero else 0.0

    @property
    def sqnr_db(self) -> float:
        """Signal over rounding error in half precision, values that overflow apart; infinite for a tensor of zeros.

        Values of one exponent are taken as evenly spread over [1, 2) * 2**e: a mean square of 7/3 * 4**e. A step s
        of the format gives an error of s**2 / 12; what vanishes is lost whole.
        """
        square = 7 / 3 * 4.0**_EXPONENTS
        step = 2.0 ** (np.maximum(_EXPONENTS, -14) - 10)
        lost = np.where(_EXPONENTS < -25, square, step**2 / 12)
        counts = np.where((_EXPONENTS > -_BIAS) & (_EXPONENTS < 16), self.exponents, 0)
        signal, noise = float(counts @ square), float(counts @ lost)
        return 10 * float(np.log10(signal / noise)) if noise else float("inf")


def measure(
    model: onnx.ModelProto,
    samples: Samples,
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, HalfRange]:
    """Run fp32 ``model`` over ``samples`` ``(S, ...)``; return every float activation's range by its name.

    The samples have passed ``calibration_data.check``. What a reduction sums up inside is there too, under the name
    of its output and "/inner sum". Tensors inside the branches of If and the bodies of Loop are not looked at.
    ``advance`` hears how many samples are done. Raises NotConvertible for a model that ONNX Runtime cannot run.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    skeleton.add_shapes(watched)
    floats = taps.float_tensors(watched)
    inputs = [value.name for value in watched.graph.input if value.name in floats]
    made = [name for node in watched.graph.node for name in node.output if name in floats]
    return activations.fold(
        watched, samples, tensors=[*inputs, *made, *_add_inner_sums(watched, floats)], make=HalfRange,
        memory_budget=memory_budget, advance=advance,
    )  # fmt: skip


def misfits(graph: onnx.GraphProto, ranges: Mapping[str, HalfRange]) -> dict[str, str]:
    """Node name -> why it must stay in fp32: what it reads, makes or sums up inside does not fit half precision."""
    outputs = {value.name for value in graph.output}
    powers = _rising_powers(graph)
    unfit: dict[str, str] = {}
    made_by = {name: node for node in graph.node for name in node.output}
    consumers: dict[str, list[tuple[int, onnx.NodeProto]]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            consumers.setdefault(name, []).append((index, node))
    for name, seen in ranges.items():
        hurt = [
            node
            for index, node in consumers.get(name, [])
            if _loses(node, seen, ranges)
            or (seen.vanishing and (node.op_type, index) in _HURT_BY_ZERO and node.input[-1] not in powers)
        ]
        if not (hurt or seen.overflows or (name in outputs and seen.sqnr_db < MIN_SQNR_DB)):
            continue
        producer = made_by.get(name.removesuffix(_INNER))
        for node in (*([producer] if producer else []), *hurt):
            unfit.setdefault(node.name, _reason(name, seen))
    return unfit


def _loses(node: onnx.NodeProto, seen: HalfRange, ranges: Mapping[str, HalfRange]) -> bool:
    """Whether ``node``'s result would suffer from an input that half precision cuts off or keeps too coarsely."""
    if node.op_type in ("Shape", "Size"):
        return False
    if seen.overflows or seen.sqnr_db >= MIN_SQNR_DB:
        return seen.overflows
    total = ranges.get(node.output[0])
    # a sum whose result half precision resolves no finer than this addend is large loses nothing with it
    drowned = node.op_type in ("Add", "Sub", "Sum") and total is not None and total.largest >= 2**11 * seen.largest
    return not drowned


def _rising_powers(graph: onnx.GraphProto) -> set[str]:
    """The constants of at least 1: raised to them, what half precision takes for 0 is nearer still to 0."""
    in_nodes = {node.output[0]: item.t for node in graph.node for item in node.attribute if item.name == "value"}
    tensors = {tensor.name: tensor for tensor in graph.initializer} | in_nodes
    exponents = {node.input[1] for node in graph.node if node.op_type == "Pow"}
    return {name for name in exponents & set(tensors) if (array_of(tensors[name]) >= 1).all()}


def _reason(name: str, seen: HalfRange) -> str:
    what = f"what it sums up for '{name.removesuffix(_INNER)}'" if name.endswith(_INNER) else f"'{name}'"
    if seen.overflows:
        return f"{what} reaches {seen.largest:.4g} on the calibration data, and half precision ends at {MAX_HALF:.0f}"
    if seen.sqnr_db < MIN_SQNR_DB:
        return f"{what} is at most {seen.largest:.2g}: half precision keeps it to {seen.sqnr_db:.0f} dB"
    return f"half precision rounds {seen.vanishing:.2%} of {what} to 0, which it divides by or takes the logarithm of"


def _add_inner_sums(model: onnx.ModelProto, floats: Collection[str]) -> list[str]:
    """Put beside each reduction one that gives the sum of magnitudes, or of squares, inside it; return their names."""
    added: list[str] = []
    opset = onnx_file.opset_of(model)
    for node in list(model.graph.node):
        if node.op_type not in _INNER_SUM or node.output[0] not in floats:
            continue
        if node.op_type == "ReduceSum" and 13 <= opset < 18:
            continue  # it takes its axes as an input there, the others as an attribute
        twin = model.graph.node.add()
        twin.CopyFrom(node)
        twin.op_type, twin.name, twin.output[0] = _INNER_SUM[node.op_type], node.name + _INNER, node.output[0] + _INNER
        if twin.op_type == "GlobalLpPool":
            twin.attribute.append(onnx.helper.make_attribute("p", 1))
        added.append(twin.output[0])
    return added
