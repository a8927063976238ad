"""What an output is, read off the graph that makes it: numbers, a choice among classes, a selection of rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

_CARRIERS = frozenset({
    "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Concat", "Expand",
    "Tile", "Gather", "GatherND", "Where", "DequantizeLinear", "ConcatFromSequence", "SequenceAt",
    "SplitToSequence", "Split", "Pad",
})  # fmt: skip
"""Operators that hand on what they are given."""
_CHOOSERS = frozenset({
    "NonMaxSuppression", "NonZero", "TopK", "Unique", "Compress",
})  # fmt: skip
"""Operators whose answer is a selection: which rows there are, how many, and in which order, depends on the data."""
_ARITHMETIC = frozenset({
    "Add", "Sub", "Mul", "Div", "Mod", "Pow", "Sqrt", "Exp", "Round", "Floor", "Ceil", "Clip", "Relu", "Sigmoid",
    "Tanh", "Conv", "MatMul", "Gemm", "Resize", "Min", "Max", "ReduceSum", "ReduceMean", "CumSum", "Abs", "Neg",
    "QuantizeLinear", "Shape", "Size", "BatchNormalization", "MatMulInteger", "ConvInteger",
})  # fmt: skip
"""Operators whose whole numbers, once cast, are quantities: pixels, counts, lengths."""
_PROBABILITIES = frozenset({"Softmax", "LogSoftmax"})
_NAMED_SCORES = ("logit", "score", "prob", "class")
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How an output may be compared.

    ``exact``: no rounded number goes into it, so it is equal or wrong. ``counted``: whole numbers that are quantities.
    ``selected``: its rows were picked by the data (top-k, NonMaxSuppression, NonZero), so that another number or order
    of them need not be wrong. ``class_scores``: its largest entry in a row is an answer.
    """

    exact: bool = False
    counted: bool = False
    selected: bool = False
    class_scores: bool = False


Kinds = Mapping[str, Kind]
UNKNOWN = Kind()


def of(model: onnx.ModelProto) -> dict[str, Kind]:
    """The kind of each output by its name. What subgraphs and functions make is unknown, and compared strictly."""
    graph = _Graph(model.graph)
    return {value.name: _kind(value, graph) for value in model.graph.output}


class _Graph:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.makers = {name: (node, index) for node in graph.node for index, name in enumerate(node.output) if name}
        self.types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
        self.types |= {tensor.name: tensor.data_type for tensor in graph.initializer}

    def origins(self, name: str) -> Iterator[str]:
        """The operators that made ``name``, through those that only hand it on."""
        pending, seen = [name], {name}
        while pending:
            maker = self.makers.get(pending.pop())
            if maker is None:
                continue
            node = maker[0]
            if node.op_type not in _CARRIERS:
                yield node.op_type
                continue
            handed = node.input if node.op_type in ("Concat", "Where") else node.input[:1]
            pending += [each for each in handed if each not in seen]
            seen.update(handed)

    def ancestry(self, name: str) -> tuple[bool, bool]:
        """(whether a selection is among what ``name`` depends on, whether a float is)."""
        pending, seen = [name], {name}
        selected = floats = False
        while pending:
            current = pending.pop()
            maker = self.makers.get(current)
            if maker is None:
                floats |= self.types.get(current, TensorProto.FLOAT) in _FLOATS
                continue
            node, _ = maker
            selected |= node.op_type in _CHOOSERS
            floats |= any(_holds_floats(attribute) for attribute in node.attribute)
            if node.op_type not in ("Shape", "Size"):
                pending += [each for each in node.input if each and each not in seen]
                seen.update(node.input)
        return selected, floats


def _holds_floats(attribute: onnx.AttributeProto) -> bool:
    """A constant of floats, or a graph, of which nothing is known."""
    if attribute.HasField("g") or attribute.graphs:
        return True
    return attribute.HasField("t") and attribute.t.data_type in _FLOATS


def _kind(value: onnx.ValueInfoProto, graph: _Graph) -> Kind:
    origins = set(graph.origins(value.name))
    selected, floats = graph.ancestry(value.name)
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type in _FLOATS:
        scores = bool(origins) and origins <= _PROBABILITIES
        named = any(word in value.name.lower() for word in _NAMED_SCORES)
        return Kind(selected=selected, class_scores=(scores or named) and not selected)
    if not floats and not selected:
        return Kind(exact=True)
    return Kind(selected=selected, counted=bool(origins) and origins <= _ARITHMETIC)
