"""What an fp16 file gives where half precision is computed in half precision, run on a CPU that has no such kernels.

ONNX Runtime's CPU provider computes an fp16 graph in fp32 and rounds where it happens to cast: sums of masks that are
-inf in half precision, and squares that overflow it, come out finite and right. Hardware rounds each result.
"""

from collections import ChainMap
from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper, inliner

from exporters import element_types as types
from exporters import operators, skeleton
from exporters.element_types import FLOAT, HALF

_TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype"}
_READS_BITS = {"BitCast"}  # of its input, which must be half precision's


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with every operator that makes half-precision results computed in fp32 and each result rounded.

    The rounding is a Cast to half precision and, for whoever reads it, one back: to nearest even, beyond 65504 to
    infinity, subnormal numbers kept. ONNX Runtime's optimizer leaves such a pair alone at every level (it removes only
    pairs that lose nothing), and finds no operators to fuse across it. Every tensor of ``model`` is there under its
    name and in its type: inputs, outputs and weights stay as they are. Sums inside one operator are fp32's, as the
    tensor units of GPUs have them.
    """
    made = onnx.ModelProto()
    made.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    graph = made.graph
    told = skeleton.inferred(made, data_prop=False)
    _Rounding(operators.opsets_of(made)).run(graph, told.graph, ChainMap())
    return made


class _Rounding:
    """Rewrites a model's graphs one by one; the names that it makes are counted over all of them."""

    def __init__(self, opsets: dict[str, int]) -> None:
        self._opsets = opsets
        self._count = 0

    def run(self, graph: onnx.GraphProto, inferred: onnx.GraphProto, outer: ChainMap[str, str]) -> None:
        """Rewrite ``graph``; ``inferred`` is the same with all the value_info there is, ``outer`` what it may read."""
        known = outer.new_child({**types.declared(inferred), **types.declared(graph)})
        wide: dict[str, str] = {}
        nodes: list[onnx.NodeProto] = []
        for node, twin in zip(graph.node, inferred.node, strict=True):
            for inner, typed in zip(types.inner_graphs(node), types.inner_graphs(twin), strict=True):
                self.run(inner, typed, known)
            types.tell(node, known, self._opsets)
            nodes.extend(self._rounded(node, known, wide) if self._computes(node, known) else [node])
        copies = [_copy(node) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)

    def _computes(self, node: onnx.NodeProto, known: ChainMap[str, str]) -> bool:
        """Whether ``node`` reads half precision, makes half precision, and could as well do it in fp32."""
        if node.op_type in _READS_BITS or any(types.inner_graphs(node)):
            return False
        formal = operators.definition(node, self._opsets)
        reads = [index for index, name in enumerate(node.input) if known.get(name) == HALF]
        if formal is None or not reads or not any(known.get(name) == HALF for name in node.output):
            return False
        parameters = [operators.parameter_of(formal.inputs, index) for index in reads]
        return all(parameter is not None and FLOAT in parameter.types for parameter in parameters)

    def _rounded(
        self, node: onnx.NodeProto, known: ChainMap[str, str], wide: dict[str, str]
    ) -> Iterator[onnx.NodeProto]:
        for index, name in enumerate(node.input):
            if known.get(name) != HALF:
                continue
            if name not in wide:
                wide[name] = self._name(name, "wide")
                yield _cast(name, wide[name], TensorProto.FLOAT)
            node.input[index] = wide[name]
        halves = {name: self._name(name, "raw") for name in node.output if known.get(name) == HALF}
        node.output[:] = [halves.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        yield node
        for name, raw in halves.items():
            yield _cast(raw, name, TensorProto.FLOAT16)

    def _name(self, name: str, kind: str) -> str:
        self._count += 1
        return f"{name}/{kind}.{self._count}"


def _cast(name: str, made: str, wanted: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [made], name=f"{made}.cast", to=wanted)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()  # a node that stands in a graph goes with the graph's old list
    copy.CopyFrom(node)
    return copy
