"""Rewrites a graph in half precision: every tensor gets one type, and a Cast stands only where two types meet.

Written here because onnxconverter-common 1.16's float16 does not keep a graph right (each with a test):

1. It leaves ``Cast(to=FLOAT)`` as it is while it declares the result half precision: the file does not load
   (microsoft/onnxconverter-common#320, #331).
2. It clamps weights at 1e4 and raises tiny ones to 1e-7 with only a warning.
3. An initializer that an fp32 node and an fp16 node share keeps one type, and the file does not load.
4. An output made by a node that stays in fp32 becomes fp16 against ``keep_io_types``.
5. Between nodes that stay in fp32 it casts down and up again, and where a tensor has two readers it does not remove
   the pair: what was kept in fp32 because it overflows, overflows there.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters.large_weights import array_of, turn

# Half precision is in their definition, but hardly in any runtime; those whose definition lacks it need no naming.
_FP32_OPERATORS = {"CumSum", "Max", "Min", "Range", "Resize", "RoiAlign", "TopK", "Upsample"}
# Their definition says half precision; these read bits, or are a function whose constants are fp32 in ONNX Runtime.
_FP32_OPERATORS |= {"BitCast", "MeanVarianceNormalization"}
# fp32 without an attribute that says so, and so not to be turned by one.
_FP32_OPERATORS |= {"ConstantOfShape", "RandomNormal", "RandomUniform"}
_SUFFIX: dict[int, str] = {TensorProto.FLOAT: ".fp32", TensorProto.FLOAT16: ".fp16"}


def rewrite(model: onnx.ModelProto, *, kept: Collection[str], keep_io_types: bool) -> None:
    """Turn ``model``, whose types are inferred and nodes named, to half precision in place.

    The nodes named in ``kept`` stay in fp32, and so do those that hold graphs (If, Loop, Scan), operators outside
    ONNX, and every input and output that an operator's definition does not allow in half precision.
    """
    _Rewriter(model, kept, keep_io_types).run()


class _Rewriter:
    """The new graph while it grows: the type of each float activation in it, and the casts there are."""

    def __init__(self, model: onnx.ModelProto, kept: Collection[str], keep_io_types: bool) -> None:
        self._graph = model.graph
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._opsets["ai.onnx"] = self._opsets.setdefault("", self._opsets.get("ai.onnx", 0))  # two names of one
        self._kept = kept
        self._io: int = TensorProto.FLOAT if keep_io_types else TensorProto.FLOAT16
        values = (*self._graph.input, *self._graph.value_info, *self._graph.output)
        self._floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._inputs = {value.name for value in self._graph.input}  # those with a default value too
        self._weights = self._types_wanted_of_weights()
        self._type: dict[str, int] = dict.fromkeys(self._inputs & self._floats, self._io)
        self._casts: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        graph = self._graph
        for node in list(graph.node):
            self._take(node)
        self._store_weights()
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.name in self._type:
                value.type.tensor_type.elem_type = self._type[value.name]
        del graph.node[:]
        graph.node.extend(self._nodes)

    def _take(self, node: onnx.NodeProto) -> None:
        """Append ``node``, after the casts that its inputs need; an output of the graph is cast where it differs."""
        for index, name in enumerate(node.input):
            node.input[index] = self._as(name, self._edge(node, index, output=False))
        _rename(node, {name: self._as(name, TensorProto.FLOAT) for name in _captured(node)})
        outputs = {value.name for value in self._graph.output}
        self._nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in self._floats:
                continue
            self._type[name] = made = self._edge(node, index, output=True)
            if name in outputs and made != self._io:
                node.output[index] = self._casts[name, made] = name + _SUFFIX[made]
                self._type[name] = self._io
                self._nodes.append(_cast(node.output[index], name, self._io))
        if not self._stays(node):
            _turn_attribute(node)

    def _as(self, name: str, wanted: int) -> str:
        """The name under which the float tensor ``name`` has the type ``wanted``; it is cast once for all readers."""
        if name in self._weights:
            return name if wanted == TensorProto.FLOAT or len(self._weights[name]) == 1 else name + _SUFFIX[wanted]
        if self._type.get(name, wanted) == wanted:
            return name
        if (name, wanted) not in self._casts:
            self._casts[name, wanted] = name + _SUFFIX[wanted]
            self._nodes.append(_cast(name, name + _SUFFIX[wanted], wanted))
        return self._casts[name, wanted]

    def _edge(self, node: onnx.NodeProto, index: int, *, output: bool) -> int:
        """The type that a float input or output of ``node`` has in the new graph."""
        if self._stays(node):
            return TensorProto.FLOAT
        schema = onnx.defs.get_schema(node.op_type, self._opsets[node.domain], node.domain)
        formal = schema.outputs if output else schema.inputs
        parameter = formal[min(index, len(formal) - 1)]  # the last one may stand for many
        return TensorProto.FLOAT16 if "tensor(float16)" in parameter.types else TensorProto.FLOAT

    def _stays(self, node: onnx.NodeProto) -> bool:
        return (
            node.name in self._kept
            or node.op_type in _FP32_OPERATORS
            or (node.op_type.startswith("Scatter") and _reduces(node))
            or (node.op_type == "Constant" and node.attribute[0].name != "value")
            or any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
            or node.domain not in ("", "ai.onnx")  # trees split elsewhere once their thresholds are rounded
            or not onnx.defs.has(node.op_type, self._opsets.get(node.domain, 0), node.domain)
        )

    def _types_wanted_of_weights(self) -> dict[str, set[int]]:
        """fp32 weight -> the types in which the new graph reads it."""
        found: dict[str, set[int]] = {
            tensor.name: set()
            for tensor in self._graph.initializer
            if tensor.data_type == TensorProto.FLOAT and tensor.name not in self._inputs
        }
        for node in self._graph.node:
            for index, name in enumerate(node.input):
                if name in found:
                    found[name].add(self._edge(node, index, output=False))
            for name in _captured(node) & set(found):
                found[name].add(TensorProto.FLOAT)
        for value in self._graph.output:
            if value.name in found:
                found[value.name].add(self._io)
        return found

    def _store_weights(self) -> None:
        """Turn the weights; one that is read in both types is there twice."""
        for tensor in list(self._graph.initializer):
            if tensor.name in self._inputs and self._type.get(tensor.name) == TensorProto.FLOAT16:
                _turn_tensor(tensor)
            wanted = self._weights.get(tensor.name, set())
            if TensorProto.FLOAT16 not in wanted:
                continue
            if len(wanted) == 1:
                self._type[tensor.name] = TensorProto.FLOAT16
            else:
                twin = self._graph.initializer.add()
                twin.CopyFrom(tensor)
                twin.name = tensor.name + _SUFFIX[TensorProto.FLOAT16]
                tensor = twin
            _turn_tensor(tensor)


def _reduces(node: onnx.NodeProto) -> bool:
    """Whether a Scatter adds up, multiplies or compares: ONNX Runtime 1.31 does not in half precision, on a CPU."""
    return any(item.name == "reduction" and item.s != b"none" for item in node.attribute)


def _captured(node: onnx.NodeProto) -> set[str]:
    """The names that the graphs inside ``node`` take from outside."""
    graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
    read: set[str] = set()
    made: set[str] = set()
    for graph in graphs:
        read |= {value.name for value in graph.output}
        made |= {value.name for value in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            read |= {*inner.input} | _captured(inner)
            made |= {*inner.output}
    return read - made - {""}


def _rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Let the graphs inside ``node`` read other names from outside."""
    for graph in (graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)):
        for inner in graph.node:
            inner.input[:] = [names.get(name, name) for name in inner.input]
            _rename(inner, names)
        for value in graph.output:
            value.name = names.get(value.name, value.name)


def _cast(name: str, made: str, wanted: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [made], name=f"{made}.cast", to=wanted)


def _turn_attribute(node: onnx.NodeProto) -> None:
    """Make a node whose attribute says that its result is fp32 say fp16."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            _turn_tensor(attribute.t)


def _turn_tensor(tensor: TensorProto) -> None:
    turn(tensor, array_of(tensor).astype(np.float16), tensor.name)
