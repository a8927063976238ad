"""Runs a graph piece by piece, so that what one node gave can be changed before the next one sees it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx

from exporters.calibration import activations
from exporters.processors import usable_cores


class Segments:
    """One walk through ``model`` (nodes in topological order, types inferred) with several calls in step.

    Each tensor is kept until the last node that reads it has run. A node runs at most once in each call.
    """

    def __init__(self, model: onnx.ModelProto, calls: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        self._model = model
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._kept: list[dict[str, npt.NDArray[Any]]] = [dict(call) for call in calls]
        self._maker = {name: index for index, node in enumerate(model.graph.node) for name in node.output}
        self._types = {
            value.name: value.type.tensor_type.elem_type
            for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
        }
        self._readers = Counter(name for node in model.graph.node for name in set(node.input))
        self._done: set[int] = set()

    def until(self, node: onnx.NodeProto) -> list[npt.NDArray[Any]]:
        """Run what ``node`` needs, and ``node``; its first output in each call, which later nodes see as it is left."""
        wanted = self._needed(node.output[0])
        nodes = [self._model.graph.node[index] for index in wanted]
        read = dict.fromkeys(name for each in nodes for name in each.input if name)
        made = {name for each in nodes for name in each.output if name}
        self._done.update(wanted)
        for each in nodes:
            self._readers.subtract(set(each.input))
        outputs = [name for name in made if self._readers[name] > 0 or name == node.output[0]]
        fed = [name for name in read if name in self._kept[0] and name not in made]
        segment = self._segment(nodes, fed, [name for name in read if name in self._weights], outputs)
        session = activations.open_session(segment, threads=usable_cores())
        for index, kept in enumerate(self._kept):
            kept |= dict(
                zip(outputs, activations.run(session, outputs, {name: kept[name] for name in fed}), strict=True)
            )
            self._kept[index] = {name: kept[name] for name in kept if self._readers[name] > 0 or name in outputs}
        return [kept[node.output[0]] for kept in self._kept]

    def _needed(self, tensor: str) -> list[int]:
        """The nodes that must run for ``tensor``, in order."""
        found: set[int] = set()
        pending = [tensor]
        while pending:
            index = self._maker.get(pending.pop())
            if index is None or index in found or index in self._done:
                continue
            found.add(index)
            pending.extend(self._model.graph.node[index].input)
        return sorted(found)

    def _segment(
        self, nodes: list[onnx.NodeProto], fed: list[str], weights: list[str], outputs: list[str]
    ) -> onnx.ModelProto:
        values = [self._value_of(name) for name in fed]
        made = [onnx.helper.make_tensor_value_info(name, self._type_of(name), None) for name in outputs]
        graph = onnx.helper.make_graph(nodes, "segment", values, made, [self._weights[name] for name in weights])
        return onnx.helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version, functions=[]
        )

    def _value_of(self, name: str) -> onnx.ValueInfoProto:
        """With the axes that are as long in all calls."""
        arrays = [kept[name] for kept in self._kept]
        kind = onnx.helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
        if len({array.ndim for array in arrays}) > 1:
            return onnx.helper.make_tensor_value_info(name, kind, None)
        lengths = [set(each) for each in zip(*(array.shape for array in arrays), strict=True)]
        shape = [each.pop() if len(each) == 1 else f"{name}_axis{place}" for place, each in enumerate(lengths)]
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    def _type_of(self, name: str) -> int:
        """Quantized activations are not in the graph's own list: the node that makes them tells."""
        if name in self._types:
            return int(self._types[name])
        node = self._model.graph.node[self._maker[name]]
        if node.op_type == "QuantizeLinear":
            return int(self._weights[node.input[2]].data_type)
        return int(onnx.TensorProto.FLOAT)
