"""A model as what it computes: the same operations whatever precision they are written in.

Rounding nodes (Q, DQ, casts, what dynamic int8 puts around a product) are looked through, operators of integers take
the name of those that they stand for, and what is computed from constants alone is a weight.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters import external_data, large_weights, onnx_file
from exporters.model_file import ModelFile
from runtimes.errors import RuntimesError
from toolchain.inspection import digests, probing
from toolchain.inspection.inlining import inlined
from toolchain.inspection.integer_operators import INTEGER_OPERATORS
from toolchain.inspection.nodes import CONTRIB, ONNX_DOMAINS, constants_of, name_of, operator_of

Array = npt.NDArray[Any]
_PASSING = {"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Dropout", "CastLike"}
_FUSED: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "FusedConv": ("Conv", (0, 1, 2)), "FusedMatMul": ("MatMul", (0, 1)), "FusedGemm": ("Gemm", (0, 1, 2)),
}  # fmt: skip
_SAME = {**_FUSED, **{name: (each.plain, each.reads) for name, each in INTEGER_OPERATORS.items()}}
"""Operators that stand for another, and their inputs in that one's order."""
_MOST_EVALUATED = 2**28


@dataclass(frozen=True)
class Source:
    """What an operation reads: an output of another (``maker`` and which), an input of the model, or a weight."""

    tensor: str
    maker: int | None = None
    output: int = 0
    given: int | None = None
    weight: bool = False


@dataclass(eq=False)
class Operation:
    """One node that computes; ``kind`` is the operator that it stands for, ``result`` the tensor that it makes of it.

    ``quantizer`` rounds the result where it is rounded, in the form of a QuantizeLinear.
    """

    index: int
    node: onnx.NodeProto
    kind: str
    sources: tuple[Source | None, ...]
    results: tuple[str, ...]
    quantizer: onnx.NodeProto | None = None
    weight_scale: str = ""
    """The constant by which an integer weight is multiplied afterwards."""
    readers: list[tuple[int, int]] = field(default_factory=list)
    """(Operation, which of its sources) that read it."""

    @property
    def label(self) -> str:
        return name_of(self.node)

    @property
    def operator(self) -> str:
        return operator_of(self.node)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """As given, or ONNX's own where they are not; graphs as what they hold."""
        outer = {name: f"outer {index}" for index, name in enumerate(digests.outer_names(self.node))}
        found = {each.name: digests.of_attribute(each, outer) for each in self.node.attribute}
        return {name: value for name, value in found.items() if value is not None}


class Operations:
    """The operations of the main graph of ``file``, in its order."""

    def __init__(self, file: ModelFile) -> None:
        self.model = _inlined(file.proto)
        graph = self.model.graph
        self.opset = onnx_file.opset_of(self.model)
        self.constants = constants_of(graph)
        self.inputs = [value.name for value in graph.input if value.name not in self.constants]
        self.outputs = [value.name for value in graph.output]
        self._nodes: Sequence[onnx.NodeProto] = graph.node
        self._makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
        self._constant = set(self.constants)
        self._scales: set[str] = set()
        self.rounding: list[onnx.NodeProto] = []
        self._evaluated: dict[str, Array | None] = {}
        self._readers: dict[str, list[int]] = {}
        for index, node in enumerate(graph.node):
            for name in (*node.input, *onnx_file.outer_reads(node)):
                self._readers.setdefault(name, []).append(index)
        self._through: dict[str, str] = {}
        self._biases: dict[int, str] = {}
        passing = [self._pass(index, node) for index, node in enumerate(graph.node)]
        computing = [
            index for index, node in enumerate(graph.node)
            if not passing[index] and not set(filter(None, node.output)) <= (self._constant | self._scales)
        ]  # fmt: skip
        self._number = {index: number for number, index in enumerate(computing)}
        self.all: list[Operation] = [self._operation(index) for index in computing]
        for operation in self.all:
            for place, source in enumerate(operation.sources):
                if source is not None and source.maker is not None:
                    self.all[source.maker].readers.append((operation.index, place))

    def origin(self, name: str) -> Source:
        """Where the values of a tensor come from, before they were rounded or cast."""
        seen = name
        while seen in self._through and seen not in self._constant:
            seen = self._through[seen]
        if seen in self._constant:
            return Source(name, weight=True)
        maker = self._makers.get(seen)
        if maker is None or maker not in self._number:
            given = self.inputs.index(seen) if seen in self.inputs else None
            return Source(seen, given=given)
        return Source(seen, maker=self._number[maker], output=list(self._nodes[maker].output).index(seen))

    def base(self, name: str) -> TensorProto | None:
        """The constant in the file that a weight is made of, None where it is made of none that is named."""
        while name not in self.constants:
            maker = self._makers.get(name)
            if maker is None or not self._nodes[maker].input:
                return None
            name = self._nodes[maker].input[0]
        return self.constants[name]

    def value(self, name: str) -> Array | None:
        """The values of a weight in float, None for what is too large to compute or cannot be."""
        if name in self.constants:
            return _as_array(self.constants[name])  # read anew each time: together they are the size of the model
        if name not in self._evaluated:
            self._evaluated[name] = self._evaluate(name)
        return self._evaluated[name]

    def _pass(self, index: int, node: onnx.NodeProto) -> bool:
        """Whether ``node`` hands on what it reads and computes nothing; notes that, constants and scales."""
        place = self._passes(node)
        if place is None and self._adds_bias(index, node):
            place = next(at for at, name in enumerate(node.input) if name not in self._constant)
        if place is not None:
            self._through[node.output[0]] = node.input[place]
        return place is not None

    def _passes(self, node: onnx.NodeProto) -> int | None:
        """The input that ``node`` hands on, None for one that computes."""
        read = [name for name in node.input if name]
        if (read or node.op_type == "Constant") and all(name in self._constant for name in read):
            if not onnx_file.outer_reads(node):
                self._constant.update(name for name in node.output if name)
            return None
        if not node.input or not node.output:
            return None  # a fault, which `nnx check` names
        if node.op_type == "DynamicQuantizeLinear":
            self._scales.update(node.output[1:])
            self.rounding.append(node)
            return 0
        known = self._constant | self._scales
        if node.op_type in ("Mul", "Cast") and all(name in known for name in read):
            self._scales.update(node.output)
            return None
        if node.op_type == "Mul" and sum(name in self._scales for name in read) == 1:
            self.rounding.append(node)
            return 1 if read[0] in self._scales else 0
        if node.op_type in _PASSING and (node.domain in ONNX_DOMAINS or node.domain == CONTRIB):
            if not self._keeps_numbers(node):
                return None
            if node.op_type != "Identity":
                self.rounding.append(node)
            return 0
        return None

    def _adds_bias(self, index: int, node: onnx.NodeProto) -> bool:
        """Whether ``node`` adds a vector to a product or convolution that has none, and that nobody else reads."""
        if node.op_type != "Add" or node.domain not in ONNX_DOMAINS:
            return False
        held = [name for name in node.input if name in self._constant]
        bias = self.base(held[0]) if len(held) == 1 else None
        if bias is None or sum(length != 1 for length in bias.dims) > 1 or not bias.dims:
            return False
        name = next(each for each in node.input if each not in self._constant)
        while name in self._through and len(self._readers.get(name, [])) == 1:
            name = self._through[name]
        maker = self._makers.get(name)
        if maker is None or maker in self._biases or len(self._readers.get(name, [])) > 1:
            return False
        product = self._nodes[maker]
        kind, order = _SAME.get(product.op_type, (product.op_type, tuple(range(len(product.input)))))
        has_bias = len(order) > 2 and len(product.input) > order[2] and bool(product.input[order[2]])
        if kind not in ("MatMul", "Gemm", "Conv") or has_bias or name in self.outputs:
            return False
        self._biases[maker] = held[0]
        return True

    def _keeps_numbers(self, node: onnx.NodeProto) -> bool:
        """A Cast to whole numbers computes: it cuts."""
        if node.op_type != "Cast":
            return True
        to = next((each.i for each in node.attribute if each.name == "to"), 0)
        return to in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)

    def _operation(self, index: int) -> Operation:
        node = self._nodes[index]
        kind, order = _SAME.get(node.op_type, (operator_of(node), tuple(range(len(node.input)))))
        names = [node.input[place] if place < len(node.input) else "" for place in order]
        if node.op_type not in _SAME:
            names += digests.outer_names(node)
        if index in self._biases:
            names = [*[*names, "", ""][:2], self._biases[index]]
        sources = [self.origin(name) if name else None for name in names]
        while sources and sources[-1] is None:
            sources.pop()
        end, scale = self._end(index)
        return Operation(
            self._number[index], node, kind, tuple(sources), (end, *node.output[1:]), self._quantizer(node, end), scale
        )

    def _end(self, index: int) -> tuple[str, str]:
        """(The tensor that stands for an operation: behind its bias and the scale of an integer product, before a Q;
        the constant scale of its weight, empty without one)."""
        node = self._nodes[index]
        end, scale = node.output[0], ""
        if node.op_type not in ("MatMulInteger", "ConvInteger") and index not in self._biases:
            return end, scale
        name = end
        while len(self._readers.get(name, [])) == 1:
            reader = self._nodes[self._readers[name][0]]
            if self._through.get(reader.output[0]) != name or (reader.op_type == "QuantizeLinear" and (
                index not in self._biases or end != node.output[0]
            )):  # fmt: skip
                break
            if reader.op_type == "Mul":
                scale = scale or self._constant_part(next(each for each in reader.input if each != name))
            name = reader.output[0]
            if reader.op_type not in ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity"):
                end = name
        return end, scale

    def _constant_part(self, name: str) -> str:
        """The constant in a scale that is computed: that of the weight."""
        pending = [name]
        while pending:
            each = pending.pop()
            if each in self._constant:
                return each
            maker = self._makers.get(each)
            if maker is not None and self._nodes[maker].op_type in ("Mul", "Cast"):
                pending += list(self._nodes[maker].input)
        return ""

    def _quantizer(self, node: onnx.NodeProto, end: str) -> onnx.NodeProto | None:
        integers = INTEGER_OPERATORS.get(node.op_type)
        scales = [node.input[at] for at in integers.result if at < len(node.input)] if integers else []
        if scales:
            return helper.make_node("QuantizeLinear", ["", *filter(None, scales)], node.output)
        readers = [self._nodes[index] for index in self._readers.get(end, [])]
        return next((each for each in readers if each.op_type == "QuantizeLinear"), None)

    def digest_of(self, names: Sequence[str]) -> str:
        """Of the constants that weights are made of, and how: for those whose values are not computed."""
        held: dict[str, str] = {}
        parts: list[object] = []

        def read(name: str) -> str:
            if name in self.constants and name not in held:
                held[name] = digests.of_tensor(self.constants[name])
            return held.get(name, name)

        for node in self._needed(names):
            if node.op_type != "Constant":
                attributes = sorted((each.name, digests.of_attribute(each, {})) for each in node.attribute)
                parts.append((operator_of(node), [read(name) for name in node.input], attributes))
                held.update({name: f"made {len(held)}" for name in node.output})
        return sha256(repr((parts, [read(name) for name in names])).encode()).hexdigest()

    def _needed(self, names: Sequence[str]) -> list[onnx.NodeProto]:
        """The nodes that make these tensors, in the order of the graph."""
        needed: set[int] = set()
        pending = list(names)
        while pending:
            maker = self._makers.get(pending.pop())
            if maker is not None and maker not in needed:
                needed.add(maker)
                pending += list(self._nodes[maker].input)
        return [self._nodes[index] for index in sorted(needed)]

    def _evaluate(self, name: str) -> Array | None:
        nodes = self._needed([name])
        held = {each for node in nodes for each in node.input if each in self.constants}
        if any(int(np.prod(self.constants[each].dims, dtype=object)) > _MOST_EVALUATED for each in held):
            return None
        return _run(nodes, [self.constants[each] for each in held], name, self.model)

    def packed(self, operation: Operation) -> Array | None:
        """The weight of a MatMulNBits as the matrix that it stands for."""
        node = operation.node
        size = {each.name: each.i for each in node.attribute}
        if node.op_type != "MatMulNBits" or size.get("K", 0) * size.get("N", 0) > 2**24:
            return None
        held = [self.constants[name] for name in node.input[1:] if name in self.constants]
        identity = numpy_helper.from_array(np.eye(size["K"], dtype=np.float32), node.input[0])
        return _run([node], [identity, *held], node.output[0], self.model)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    return inlined(model) if model.functions and external_data.size_of(model) <= external_data.MAX_BYTES else model


def _run(
    nodes: Sequence[onnx.NodeProto], weights: Sequence[TensorProto], name: str, like: onnx.ModelProto
) -> Array | None:
    """What ``nodes`` make of constants; None where nobody here computes it.

    ONNX Runtime has kernels for what quantizers write, onnx's reference has none for a DequantizeLinear below opset 19;
    that one has types which no output of ONNX Runtime has in numpy.
    """
    held = [
        numpy_helper.from_array(large_weights.array_of(each), each.name) if large_weights.is_stub(each) else each
        for each in weights
    ]
    graph = helper.make_graph(nodes, "constants", [], [onnx.ValueInfoProto(name=name)], held)
    model = helper.make_model(graph, opset_imports=like.opset_import, ir_version=max(like.ir_version, 4))
    with contextlib.suppress(RuntimesError, probing.NotReadable):
        return np.asarray(probing.results(model, {})[name])
    try:
        from onnx.reference import ReferenceEvaluator

        found: Any = ReferenceEvaluator(model).run(None, {})
        return np.asarray(found[0])
    except Exception:  # noqa: BLE001 - onnx's reference raises whatever Python does
        return None


def _as_array(tensor: TensorProto) -> Array | None:
    return large_weights.array_of(tensor) if large_weights.is_there(tensor) else None


def weights_read(operation: Operation) -> Iterator[tuple[int, Source]]:
    """(Which of its sources, that weight)."""
    for place, source in enumerate(operation.sources):
        if source is not None and source.weight:
            yield place, source
