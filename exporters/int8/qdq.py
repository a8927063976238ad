"""Writes a placement into a graph: QuantizeLinear and DequantizeLinear pairs, integer weights and biases.

ONNX Runtime fuses a node whose inputs come from DequantizeLinear and whose outputs go to QuantizeLinear into an int8
kernel. Nothing here goes by a name's ending: every name is a fresh one, whatever the graph calls its tensors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from exporters import cleaning, onnx_file
from exporters.calibration.thresholds import Range
from exporters.int8 import operators, placement, weights
from exporters.int8.placement import Placement, nodes_in_float
from exporters.int8.targets import Int8Format
from exporters.int8.weights import Scaling
from exporters.large_weights import array_of, tensor_of
from exporters.weights import Names

__all__ = ["gemm_weights", "inserted", "nodes_in_float"]


def inserted(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    int8: Int8Format,
    exclude: Collection[str] = (),
    gemm_per_tensor: bool = False,
    unrounded: Collection[str] = (),
) -> onnx.ModelProto:
    """``model`` (shapes inferred) with int8 weights, int32 biases and a Q/DQ pair on every activation that int8 reads,
    but for the nodes of ``exclude`` and what :func:`placement.placed` leaves in float.

    What one float node hands to another is not rounded on the way. What an int8 node made stays behind its Q/DQ pair
    for all its readers: a second, float reader would keep it from running in int8. ``gemm_per_tensor`` gives the
    weights of a Gemm one scale whatever ``int8`` says.
    """
    onnx_file.require_nodes(model, exclude, source="the model")
    place = placement.placed(model, ranges, int8, exclude, unrounded)
    return written(model, place, ranges, int8=int8, gemm_per_tensor=gemm_per_tensor)


def written(
    model: onnx.ModelProto,
    place: Placement,
    ranges: Mapping[str, Range],
    *,
    int8: Int8Format,
    gemm_per_tensor: bool = False,
) -> onnx.ModelProto:
    """``model`` with the roundings of ``place``."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _Writer(made, place, ranges, int8, gemm_per_tensor).write()
    return cleaning.without_dead_parts(made)


def gemm_weights(model: onnx.ModelProto) -> list[str]:
    """The constants that a Gemm multiplies by."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.input[1] for node in model.graph.node if node.op_type == "Gemm" and node.input[1] in constants]


@dataclass(frozen=True)
class _Stored:
    """The names of a scaling's constants."""

    scale: str
    zero_point: str
    axis: int | None


@dataclass
class _Writer:
    """Goes through the nodes in order; what a node reads is there before it, what it makes is rounded behind it."""

    model: onnx.ModelProto
    place: Placement
    ranges: Mapping[str, Range]
    int8: Int8Format
    gemm_per_tensor: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    dequantized: dict[str, str] = field(default_factory=dict)
    stored: dict[str, _Stored] = field(default_factory=dict)
    scalings: dict[str, Scaling] = field(default_factory=dict)
    weight_scalings: dict[tuple[str, int | None], Scaling] = field(default_factory=dict)
    written_weights: dict[tuple[str, int | None], tuple[str, _Stored]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(self.model)
        self.constants = self.place.wiring.constants

    def write(self) -> None:
        self._scale_weights()
        for value in self.model.graph.input:
            if value.name in self.place.rounded:
                self._round(value.name, raw=value.name)
        removed = {node.name for source in self.place.merged for node in self.place.wiring.readers[source]}
        for node in self.model.graph.node:
            if node.name not in removed:
                self._write(node)
        del self.model.graph.node[:]
        self.model.graph.node.extend(self.nodes)
        kept = [value for value in self.model.graph.value_info if value.name not in self.place.merged]
        del self.model.graph.value_info[:]
        self.model.graph.value_info.extend(kept)

    def _write(self, node: onnx.NodeProto) -> None:
        original = self.place.wiring.makers[next(filter(None, node.output))]  # as the placement knows it
        in_float = self.place.computes_in_float(original)
        if node.op_type in operators.WEIGHTED and not in_float:
            self._use_weights(node)
        for index, name in enumerate(node.input):
            if name in self.constants and name in self.place.rounded and not in_float:
                node.input[index] = self._dequantized_constant(name)
            elif name in self.dequantized and not (in_float and self._made_in_float(name)):
                node.input[index] = self.dequantized[name]
        inside = {name: read for name, read in self.dequantized.items() if not self._made_in_float(name)}
        onnx_file.rename_outer_reads(node, inside)
        self.nodes.append(node)
        for index, name in enumerate(node.output):
            made = self.place.merged.get(name, name)
            if made not in self.place.rounded:
                continue
            raw = made
            if made in self.place.wiring.outputs and not in_float and made not in self.place.unrounded:
                raw = self.names.fresh(f"{made}_QuantizeLinear_Input")
            node.output[index] = raw
            self._round(made, raw=raw)

    def _made_in_float(self, tensor: str) -> bool:
        return tensor in self.place.unrounded or self.place.computes_in_float(self.place.wiring.makers.get(tensor))

    def _round(self, tensor: str, *, raw: str) -> None:
        """Put a Q/DQ pair behind ``raw``; its result is called ``tensor`` where that is not ``raw`` itself."""
        stored = self._stored_scaling(self.place.rounded[tensor])
        rounded = self.names.fresh(f"{tensor}_QuantizeLinear_Output")
        result = self.names.fresh(f"{tensor}_DequantizeLinear_Output") if raw == tensor else tensor
        self._convert("QuantizeLinear", raw, rounded, stored, named=f"{tensor}_QuantizeLinear")
        self._convert("DequantizeLinear", rounded, result, stored, named=f"{tensor}_DequantizeLinear")
        self.dequantized[tensor] = result

    def _convert(self, operator: str, source: str, result: str, stored: _Stored, *, named: str) -> None:
        inputs = [source, stored.scale, stored.zero_point]
        made = helper.make_node(operator, inputs, [result], self.names.fresh(named))
        if stored.axis is not None:
            made.attribute.append(helper.make_attribute("axis", stored.axis))
        self.nodes.append(made)

    def _scaling(self, root: str) -> Scaling:
        """That of an activation, or of a constant that is stored as one."""
        if root not in self.scalings:
            dtype, symmetric = self.int8.activation, self.int8.symmetric
            if root in self.constants:
                values = array_of(self.constants[root])
                self.scalings[root] = weights.of_constant(values, dtype, symmetric=symmetric)
            else:
                self.scalings[root] = weights.of_activation(self.ranges[root], dtype, symmetric=symmetric)
        return self.scalings[root]

    def _stored_scaling(self, root: str) -> _Stored:
        if root not in self.stored:
            self.stored[root] = self._store(root, self._scaling(root))
        return self.stored[root]

    def _store(self, name: str, scaling: Scaling) -> _Stored:
        scale = self._constant(f"{name}_scale", scaling.scale)
        return _Stored(scale, self._constant(f"{name}_zero_point", scaling.zero_point), scaling.axis)

    def _constant(self, wanted: str, values: weights.Array) -> str:
        name = self.names.fresh(wanted)
        self.model.graph.initializer.append(tensor_of(np.asarray(values), name))
        return name

    def _dequantized_constant(self, name: str) -> str:
        if name not in self.dequantized:
            values = array_of(self.constants[name])
            rounded = self._constant(f"{name}_quantized", weights.rounded(values, self._scaling(name)))
            result = self.names.fresh(f"{name}_DequantizeLinear_Output")
            stored = self._stored_scaling(name)
            self._convert("DequantizeLinear", rounded, result, stored, named=f"{name}_DequantizeLinear")
            self.dequantized[name] = result
        return self.dequantized[name]

    def _sides(self, node: onnx.NodeProto) -> tuple[str, str] | None:
        """(The weight, the activation) of a node with weights in int8; None for a constant times an activation, whose
        constant is stored as an activation: no int8 kernel takes weights on that side.
        """
        left, right = node.input[:2]
        return (right, left) if right in self.constants else None

    def _key(self, node: onnx.NodeProto, weight: str) -> tuple[str, int | None]:
        per_tensor = not self.int8.per_channel or (self.gemm_per_tensor and node.op_type == "Gemm")
        return weight, None if per_tensor else operators.weight_axis(node, len(self.constants[weight].dims))

    def _scale_weights(self) -> None:
        """A weight has one scaling for all its readers of the same axis, wide enough for the bias of each."""
        biases: dict[tuple[str, int | None], list[tuple[weights.Floats, weights.Array]]] = {}
        for node in self.model.graph.node:
            known = self.place.wiring.makers.get(next(filter(None, node.output), ""))
            if node.op_type not in operators.WEIGHTED or self.place.computes_in_float(known):
                continue
            if (sides := self._sides(node)) is None:
                continue
            added = biases.setdefault(self._key(node, sides[0]), [])
            if bias := operators.bias_of(node):
                input_scale = self._scaling(self.place.rounded[sides[1]]).scale
                added.append((input_scale, array_of(self.constants[bias])))
        for (weight, axis), added in biases.items():
            values = array_of(self.constants[weight])
            plain = weights.of_weight(values, axis=axis, reduce_range=self.int8.reduce_range)
            self.weight_scalings[weight, axis] = weights.widened(plain, added)

    def _use_weights(self, node: onnx.NodeProto) -> None:
        sides = self._sides(node)
        if sides is None:
            return
        key = self._key(node, sides[0])
        if bias := operators.bias_of(node):
            node.input[2] = self._dequantized_bias(bias, self._scaling(self.place.rounded[sides[1]]), key)
        node.input[1] = self._dequantized_weight(key)

    def _dequantized_weight(self, key: tuple[str, int | None]) -> str:
        """A weight's integers and scales are stored once; each of its readers has a DequantizeLinear of its own.

        An x86 without VNNI that computes precisely changes int8 weights to uint8 when it opens a model, and in ONNX
        Runtime 1.31 fails at the second product that reads the same: that one reads them through a Reshape that
        changes nothing, which is folded into a constant of its own before.
        """
        weight, scaling = key[0], self.weight_scalings[key]
        again = key in self.written_weights
        if not again:
            values = weights.rounded(array_of(self.constants[weight]), scaling)
            self.written_weights[key] = self._constant(f"{weight}_quantized", values), self._store(weight, scaling)
        integers, stored = self.written_weights[key]
        if again:
            integers, stored = self._copied(integers), self._copied_scaling(stored)
        result = self.names.fresh(f"{weight}_DequantizeLinear_Output")
        self._convert("DequantizeLinear", integers, result, stored, named=f"{weight}_DequantizeLinear")
        return result

    def _copied(self, constant: str) -> str:
        """``constant`` under another name, which costs the file no bytes."""
        dims = next(tensor.dims for tensor in self.model.graph.initializer if tensor.name == constant)
        shape = self._constant(f"{constant}_shape", np.array(dims, np.int64))
        made = self.names.fresh(f"{constant}_again")
        self.nodes.append(
            helper.make_node("Reshape", [constant, shape], [made], self.names.fresh(f"{constant}_Reshape"))
        )
        return made

    def _copied_scaling(self, stored: _Stored) -> _Stored:
        """Scales are few: ``stored`` as constants of their own."""
        values = {tensor.name: tensor for tensor in self.model.graph.initializer}
        scale, zero = (array_of(values[name]) for name in (stored.scale, stored.zero_point))
        return _Stored(self._constant(stored.scale, scale), self._constant(stored.zero_point, zero), stored.axis)

    def _dequantized_bias(self, bias: str, activation: Scaling, key: tuple[str, int | None]) -> str:
        scaling = weights.of_bias(activation.scale, self.weight_scalings[key])
        values = weights.rounded_bias(array_of(self.constants[bias]), scaling)
        rounded = self._constant(f"{bias}_quantized", values)
        result = self.names.fresh(f"{bias}_DequantizeLinear_Output")
        stored = self._store(f"{bias}_quantized", scaling)
        self._convert("DequantizeLinear", rounded, result, stored, named=f"{bias}_DequantizeLinear")
        return result
