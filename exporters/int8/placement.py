"""Where int8 goes in a graph: which nodes compute in it, and which tensors are rounded, at whose scale.

Every operator that ONNX Runtime has an int8 kernel for takes part: float islands between int8 convolutions cost 10 to
60 % of the speed. What would be blurred, slowed down, or has no range of its own to go by stays in float, with what
needs it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto

from exporters import norms, onnx_file
from exporters.calibration import taps
from exporters.calibration.thresholds import Range
from exporters.int8 import operators
from exporters.int8.targets import Int8Format
from exporters.large_weights import array_of
from exporters.operators import attribute

_AVERAGES = ("AveragePool", "GlobalAveragePool", "ReduceMean")
_MIXING = ("Add", "Sub", "Mul", "Div", "Where", "Max", "Min", *operators.SHAPES)
UNLIKE = 16.0
"""A part of a tensor that reaches this many times less far than the whole has lost 4 of its 8 bits."""


class Wiring:
    """Who makes and who reads each tensor of a model's main graph; what nested graphs read, their node reads."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys((*node.input, *onnx_file.outer_reads(node))):
                if name:
                    self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in model.graph.output}
        self.inputs = {value.name for value in model.graph.input}
        self.constants = taps.constants_of(model.graph)
        self.activations = taps.float_tensors(model)

    def read_by(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The nodes that read an output of ``node``."""
        for name in node.output:
            yield from self.readers.get(name, [])

    def made_for(self, node: onnx.NodeProto) -> Iterator[tuple[str, onnx.NodeProto | None]]:
        """The fp32 activations that ``node`` reads, each with its maker; None is the graph's input."""
        for name in node.input:
            if name in self.activations:
                yield name, self.makers.get(name)


@dataclass(frozen=True)
class Placement:
    """``rounded`` tensors have the scale of the tensor that they name, themselves for most.

    ``merged`` maps the output of a node to that of the Relu or Clip which its rounding does the work of. Nodes
    ``in_float`` compute in float, as do those that only follow what was not rounded. ``unmeasured`` are the tensors
    that would be rounded if they had a range, each with the nodes that stay in float for it. ``unrounded`` tensors
    leave the node that makes them in float; only int8 readers have them rounded.
    """

    wiring: Wiring
    in_float: frozenset[str]
    rounded: dict[str, str]
    merged: dict[str, str]
    following: frozenset[str]
    unmeasured: dict[str, frozenset[str]]
    unrounded: frozenset[str]

    def computes_in_float(self, node: onnx.NodeProto | None) -> bool:
        """A graph's input, which has no node, counts as float."""
        return node is None or node.name in self.in_float or node.name in self.following


def placed(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    int8: Int8Format,
    exclude: Collection[str] = (),
    unrounded: Collection[str] = (),
) -> Placement:
    """Where int8 goes in ``model``, whose activations have ``ranges``, when the nodes of ``exclude`` are in float and
    the tensors ``unrounded`` stay as they are made.
    """
    wiring = Wiring(model)
    chosen = {*exclude, *nodes_in_float(model, int8), *_unlike_concats(wiring, ranges)}
    makers = [wiring.makers[name] for name in unrounded if name in wiring.makers]
    chosen |= {node.name for node in makers if node.op_type in (*operators.ELEMENTWISE, *operators.CHOOSING)}
    unmeasured: dict[str, set[str]] = {}
    while True:
        in_float = _with_islands(wiring, _with_activations(wiring, chosen))
        walk = _Walk(wiring, in_float, ranges, int8, frozenset(unrounded))
        walk.through()
        if not walk.missing:
            break
        for tensor, nodes in walk.missing.items():
            unmeasured.setdefault(tensor, set()).update(nodes)
            chosen |= nodes
    found = {tensor: frozenset(nodes) for tensor, nodes in unmeasured.items()}
    following = frozenset(walk.following)
    return Placement(wiring, frozenset(in_float), walk.rounded, walk.merged, following, found, frozenset(unrounded))


@dataclass
class _Walk:
    """One pass over the nodes, in order, in which each asks for what it wants rounded."""

    wiring: Wiring
    in_float: Collection[str]
    ranges: Mapping[str, Range]
    int8: Int8Format
    unrounded: Collection[str]
    rounded: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    following: set[str] = field(default_factory=set)
    missing: dict[str, set[str]] = field(default_factory=dict)

    def through(self) -> None:
        for node in self.wiring.nodes:
            if node.name in self.in_float:
                continue
            if node.op_type not in operators.WEIGHTED and any(name in self.unrounded for name in node.output):
                self.following.add(node.name)
            else:
                self._visit(node)

    def _visit(self, node: onnx.NodeProto) -> None:
        if node.op_type in operators.WEIGHTED:
            self._multiply(node)
        elif node.op_type in operators.ACTIVATIONS:
            self._clip(node)
        elif node.op_type in operators.CHOOSING:
            if all(name in self.rounded for name in node.input[1:]):
                self._round(node, node.output[0])
            else:
                self.following.add(node.name)
        elif node.op_type in operators.PARTING:
            self._part(node)
        elif node.op_type in operators.FOLLOWING:
            self._follow(node)
        else:
            for name in (*node.input, *node.output):
                self._round(node, name)

    def _multiply(self, node: onnx.NodeProto) -> None:
        left, right = node.input[:2]
        self._round(node, left)
        if right not in self.wiring.constants:  # on the left a constant is stored as an activation, as kernels want it
            self._round(node, right)
        made = node.output[0]
        raw = node.op_type in operators.PRODUCTS and all(
            reader.name in self.in_float for reader in self.wiring.readers.get(made, [])
        )
        if not raw and made not in self.unrounded:
            self._round(node, made)

    def _clip(self, node: onnx.NodeProto) -> None:
        """Library graphs differ for symmetric ranges, which have no bound at 0 to clip by."""
        source, made = node.input[0], node.output[0]
        if source not in self.rounded:
            self.following.add(node.name)
            return
        alone = len(self.wiring.readers[source]) == 1 and source not in self.wiring.outputs
        if alone and source in self.wiring.makers and not self.int8.symmetric:
            del self.rounded[source]
            self.merged[source] = made
        self._round(node, made)

    def _part(self, node: onnx.NodeProto) -> None:
        source = node.input[0]
        self._round(node, source)
        if node.op_type == "Pad" and len(node.input) > 2 and node.input[2]:
            self._round(node, node.input[2])
        same = node.op_type == "Split" or operators.pads_at_the_same_scale(node, self.wiring.constants)
        for name in node.output:
            if same and source in self.rounded:
                self._round_as(name, source)
            else:
                self._round(node, name)

    def _follow(self, node: onnx.NodeProto) -> None:
        source = node.input[0]
        if node.op_type == "Gather" and source in self.wiring.constants:
            self._round(node, source)
        if source in self.rounded:
            self._round_as(node.output[0], source)
        else:
            self.following.add(node.name)

    def _round_as(self, name: str, source: str) -> None:
        if name in self.wiring.activations:
            self.rounded[name] = self.rounded[source]

    def _round(self, node: onnx.NodeProto, name: str) -> None:
        """``node`` wants ``name`` rounded at a scale of its own, unless it is already; what is not fp32 never is."""
        if name in self.rounded or (name not in self.wiring.activations and name not in self.wiring.constants):
            return
        if name in self.wiring.constants:
            if self.wiring.constants[name].data_type == TensorProto.FLOAT:
                self.rounded[name] = name
        elif name in self.ranges:
            self.rounded[name] = name
        else:
            self.missing.setdefault(name, set()).add(node.name)


def nodes_in_float(model: onnx.ModelProto, int8: Int8Format) -> list[str]:
    """The names of the nodes that int8 would slow down or blur, whatever their ranges.

    Those are ``float_ops``, products of two activations (attention's scores, and those times the values: in int8 a
    MiniLM is 1.31 times slower), average pools before the classifier, which must round a mean to the scale of what it
    is the mean of (0.8 dB on a CIFAR-10 net), what lies between a product and an exponential, the inside of norms, and
    in a transformer all but products and convolutions: rounding the residual stream to 8 bits after each addition takes
    a MiniLM from 42 to 24 dB and gains no time.
    """
    wiring = Wiring(model)
    residual = onnx_file.has_layer_norms(model)
    norm_nodes = norms.nodes_of_norms(model.graph)
    exponents = _before_exponentials(wiring)
    named = [
        node.name
        for node in wiring.nodes
        if not operators.is_known(node)
        or node.op_type in int8.float_ops
        or node.name in norm_nodes
        or node.name in exponents
        or (residual and node.op_type not in operators.WEIGHTED)
        or _suits_no_kernel(node, wiring)
        or (node.op_type in _AVERAGES and _feeds_classifier(node, wiring))
    ]
    found = _with_islands(wiring, set(named))
    return [node.name for node in wiring.nodes if node.name in found]


def _suits_no_kernel(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """What int8 has no kernel for, or no numbers: infinite constants, weights and biases that are not constant."""
    constants = [wiring.constants[name] for name in node.input if name in wiring.constants]
    floats = [tensor for tensor in constants if tensor.data_type == TensorProto.FLOAT]
    if not all(operators.is_roundable(tensor) for tensor in floats):
        return node.op_type != "Clip" or not taps.merges(node, wiring.constants)
    if node.op_type in operators.WEIGHTED:
        return not _has_constant_weights(node, wiring.constants)
    if node.op_type == "Clip":
        return not taps.merges(node, wiring.constants)
    if node.op_type == "Mul":
        return any(_loses_channels(tensor) for tensor in floats)
    return operators.overshoots(node)


def _has_constant_weights(node: onnx.NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether one side of a product is an fp32 constant, and its bias, if any, one number for each output channel."""
    sides = [name in constants and constants[name].data_type == TensorProto.FLOAT for name in node.input[:2]]
    if node.op_type == "MatMul":
        return sides in ([True, False], [False, True])
    bias = operators.bias_of(node)
    plain = attributes_are(node, alpha=1.0, beta=1.0)
    return sides == [False, True] and plain and (not bias or (bias in constants and len(constants[bias].dims) == 1))


def attributes_are(node: onnx.NodeProto, **values: float) -> bool:
    """Whether the attributes of ``node`` have these values or are not given, ``values`` being their defaults."""
    return all(attribute(node, name, value) == value for name, value in values.items())


def _loses_channels(tensor: TensorProto) -> bool:
    """Whether some factors of a Mul are so much smaller than others that 8 bits for all leave too few for them."""
    sizes = np.abs(array_of(tensor))
    sizes = sizes[sizes > 0]
    return sizes.size > 1 and bool(sizes.min() * 2 * UNLIKE < sizes.max())


def _before_exponentials(wiring: Wiring) -> set[str]:
    """What mixes and moves the arguments of an exponential, back to the products that they come from.

    Masks are added there, whose -10,000 leaves no range to the scores.
    """
    found: set[str] = set()
    for node in reversed(wiring.nodes):
        readers = list(wiring.read_by(node))
        mixes = node.op_type in _MIXING and readers and not wiring.outputs.intersection(node.output)
        if mixes and all(reader.name in found or reader.op_type in operators.EXPONENTIALS for reader in readers):
            found.add(node.name)
    return found


def _feeds_classifier(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether only products read ``node``'s output, through whatever changes its shape."""
    pending, readers = [node], list[onnx.NodeProto]()
    while pending:
        for reader in wiring.read_by(pending.pop()):
            (pending if reader.op_type in operators.SHAPES else readers).append(reader)
    return all(reader.op_type in operators.PRODUCTS for reader in readers)


def _unlike_concats(wiring: Wiring, ranges: Mapping[str, Range]) -> set[str]:
    """The Concats that would round a part to the scale of another that reaches :data:`UNLIKE` times further.

    A detector's boxes, in pixels, stand beside scores between 0 and 1. Where only products read them, they round the
    whole in any case.
    """
    found: set[str] = set()
    for node in wiring.nodes:
        if node.op_type != "Concat":
            continue
        reaches = [reach for name in node.input if (reach := _reach(name, wiring, ranges))]
        if reaches and min(reaches) * UNLIKE < max(reaches) and not _only_products_read(node, wiring):
            found.add(node.name)
    return found


def _reach(name: str, wiring: Wiring, ranges: Mapping[str, Range]) -> float:
    if name in ranges:
        return ranges[name].high - ranges[name].low
    constant = wiring.constants.get(name)
    if constant is None or not operators.is_roundable(constant):
        return 0.0
    values = array_of(constant)
    return float(max(values.max(), 0.0) - min(values.min(), 0.0))


def _only_products_read(node: onnx.NodeProto, wiring: Wiring) -> bool:
    if wiring.outputs.intersection(node.output):
        return False
    readers = list(wiring.read_by(node))
    return bool(readers) and all(
        reader.op_type in operators.WEIGHTED
        or (reader.op_type in operators.FOLLOWING and _only_products_read(reader, wiring))
        for reader in readers
    )


def _with_activations(wiring: Wiring, kept: set[str]) -> set[str]:
    """``kept`` and the Relu or Clip behind each: it is merged into what feeds it."""
    made = {output for node in wiring.nodes if node.name in kept for output in node.output}
    behind = {node.name for node in wiring.nodes if node.op_type in operators.ACTIVATIONS and node.input[0] in made}
    return kept | behind


def _with_islands(wiring: Wiring, kept: set[str]) -> set[str]:
    """``kept`` and what stands between float nodes only, products with a float result among them: int8 gains nothing
    there, and each rounding costs.
    """
    islands = {node.name for node in wiring.nodes if node.op_type not in operators.WEIGHTED}
    while True:
        on_land = {
            node.name
            for node in wiring.nodes
            if node.name in islands - kept
            and not (
                all(reader.name in kept | islands for reader in wiring.read_by(node))
                and all(
                    maker is None or maker.name in kept | islands or maker.op_type in operators.PRODUCTS
                    for _, maker in wiring.made_for(node)
                )
            )
        }
        if not on_land:
            return kept | islands
        islands -= on_land


def nested_products(model: onnx.ModelProto) -> list[str]:
    """The products and convolutions inside If, Loop and Scan, whose activations nobody looks at, and where each is."""
    return list(_products_inside(model.graph))


def _products_inside(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        for item in node.attribute:
            for inner in (*([item.g] if item.HasField("g") else []), *item.graphs):
                place = f"{item.name} of {node.name or node.output[0]}"
                found = [each for each in inner.node if each.op_type in operators.WEIGHTED]
                yield from (f"{each.name or each.output[0]} in {place}" for each in found)
                yield from _products_inside(inner)
