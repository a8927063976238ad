"""Which axis of each input and output counts samples: the one rule that calibration, bench, proof and explain share."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx  # else where it is used: a row of the bench may run where there is numpy and onnxruntime alone

Axis = int | str
"""A length, the name of a dynamic one, "?" for one without a name."""
Shape = tuple[Axis, ...]
NAMELESS = "?"
_BATCH = re.compile(r"(n|b|bs|bsz)(_?\d+)?|.*batch.*|(num_?)?(samples|examples)", re.IGNORECASE)
_NOT_BATCH = re.compile(
    r"(t|s|l|p|h|w|c|k|q)(_?\d+)?|.*(seq|len|time|past|future|frame|step|token|height|width|channel|feature|point|box).*",
    re.IGNORECASE,
)
"""Names that people give to other axes, when nothing else tells."""
_SIZES = (5_003, 7_001)
"""Batches that no other axis is likely to be as long as, nor a multiple of."""
_LARGE_BYTES = 4_096
"""Constants beyond it are no shapes: shape inference needs their types only."""


@dataclass(frozen=True)
class BatchAxes:
    """The batch axis of each input and output by its name, None where it has none; ``fixed`` is its length, if fixed.

    ``shapes`` are the inputs' own, None for what is no tensor or says nothing of its shape; ``name`` is that of a
    dynamic batch, "?" without one.
    """

    inputs: Mapping[str, int | None]
    outputs: Mapping[str, int | None]
    fixed: int | None
    shapes: Mapping[str, Shape | None] = field(default_factory=dict)
    name: str | None = None

    @staticmethod
    def of(model: "onnx.ModelProto") -> "BatchAxes":
        """Read off the graph, without running it.

        The batch is the name that stands on axis 0 of the inputs (the first such input's, and names like "batch" or "N"
        before names of time or space, on whichever axis they stand): [N, 16] and a state [2, N, 8] have one, [6, 16]
        beside them has none. Where no axis is named so, it is the length on which axis 0 of an input of rank 2 or more
        and that of an output agree: [8, 16] -> [8, 4] has a fixed batch, [16] -> [8] has none.
        """
        found = BatchAxes.of_inputs(model)
        outputs = {value.name: _shape(value.type) for value in model.graph.output}
        if found.fixed is not None:
            places = {name: _leading(shape, found.fixed, least_rank=1) for name, shape in outputs.items()}
        elif all(axis is None for axis in found.inputs.values()):
            places = dict.fromkeys(outputs)
        else:
            places = _of_outputs(model, found, outputs)
        return replace(found, outputs=places)

    @staticmethod
    def of_inputs(model: "onnx.ModelProto") -> "BatchAxes":
        """:meth:`of` without the outputs, some of which cost shape inference: all that making calls takes."""
        from exporters import onnx_file

        names = set(onnx_file.interface_of(model)[0])
        inputs = {value.name: _shape(value.type) for value in model.graph.input if value.name in names}
        outputs = {value.name: _shape(value.type) for value in model.graph.output}
        length = _fixed(inputs, outputs)
        symbol = _symbol(inputs, outputs)
        if length is not None and (symbol is None or not _wins(symbol, inputs, outputs)):
            axes = {name: _leading(shape, length, least_rank=2) for name, shape in inputs.items()}
            return BatchAxes(axes, {}, length, inputs)
        return BatchAxes({name: _place(shape, symbol) for name, shape in inputs.items()}, {}, None, inputs, symbol)


def _shape(kind: "onnx.TypeProto") -> Shape | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else axis.dim_param or NAMELESS
        for axis in kind.tensor_type.shape.dim
    )


def _symbol(inputs: Mapping[str, Shape | None], outputs: Mapping[str, Shape | None]) -> str | None:
    """The batch's name, "?" for one without; None where no input has a dynamic axis that could be it."""
    leading = {shape[0] for shape in outputs.values() if shape}
    best: tuple[tuple[bool, ...], str] | None = None
    for shape in inputs.values():
        for place, axis in enumerate(shape or ()):
            if not isinstance(axis, str) or axis == NAMELESS or (shape or ()).count(axis) > 1:
                continue
            named, other = bool(_BATCH.fullmatch(axis)), bool(_NOT_BATCH.fullmatch(axis))
            if not named and (place or (other and axis not in leading)):
                continue
            rank = (named, not other, axis in leading)
            if best is None or rank > best[0]:
                best = rank, axis
    if best is not None:
        return best[1]
    tells = not outputs or any(shape is None or (shape and isinstance(shape[0], str)) for shape in outputs.values())
    return NAMELESS if tells and any(shape and shape[0] == NAMELESS for shape in inputs.values()) else None


def _wins(symbol: str, inputs: Mapping[str, Shape | None], outputs: Mapping[str, Shape | None]) -> bool:
    """Whether a name is the batch although an input and an output agree on a fixed length: [1, S] beside [S, S]."""
    first = next((shape for shape in inputs.values() if shape and len(shape) > 1), ())
    return (
        bool(_BATCH.fullmatch(symbol))
        or (bool(first) and first[0] == symbol)
        or any(shape and shape[0] == symbol for shape in outputs.values())
    )


def _fixed(inputs: Mapping[str, Shape | None], outputs: Mapping[str, Shape | None]) -> int | None:
    """The length on which axis 0 of inputs and outputs agree; a 1 needs no output to agree."""
    leading = {shape[0] for shape in outputs.values() if shape}
    for shape in inputs.values():
        if shape and len(shape) > 1 and isinstance(shape[0], int) and (shape[0] == 1 or shape[0] in leading):
            return shape[0]
    return None


def _leading(shape: Shape | None, length: int, *, least_rank: int) -> int | None:
    return 0 if shape and len(shape) >= least_rank and shape[0] == length else None


def _place(shape: Shape | None, symbol: str | None) -> int | None:
    """The axis of ``shape`` that is the batch; one without a name counts at the front."""
    if not shape or symbol is None:
        return None
    if symbol in shape and symbol != NAMELESS:
        return shape.index(symbol)
    return 0 if shape[0] == NAMELESS else None


def _of_outputs(
    model: "onnx.ModelProto", axes: BatchAxes, outputs: Mapping[str, Shape | None]
) -> dict[str, int | None]:
    """By name where the file says so, else by what shape inference makes of two lengths of the batch."""
    found: dict[str, int | None] = {}
    unknown = []
    for name, shape in outputs.items():
        named = shape and axes.name in shape and axes.name != NAMELESS
        found[name] = shape.index(axes.name) if shape and axes.name and named else None
        if found[name] is None and (shape is None or any(isinstance(axis, str) for axis in shape)):
            unknown.append(name)
    if unknown:
        first, second = (dict(_inferred(model, axes.inputs, size)) for size in _SIZES)
        for name in unknown:
            pairs = zip(first.get(name) or (), second.get(name) or (), strict=False)
            found[name] = next((place for place, pair in enumerate(pairs) if pair == _SIZES), None)
            declared, inferred = outputs[name], first.get(name)
            if found[name] is None and axes.name == NAMELESS and declared and declared[0] == NAMELESS:
                found[name] = 0 if not inferred or isinstance(inferred[0], str) else None
    return found


def _inferred(model: "onnx.ModelProto", axes: Mapping[str, int | None], size: int) -> Iterator[tuple[str, Shape]]:
    """The outputs' shapes by onnx's shape inference when the batch is ``size``; none where it fails."""
    import onnx

    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name or "shapes"
    graph.node.extend(model.graph.node)
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in weights:
            continue
        graph.input.append(value)
        if (axis := axes.get(value.name)) is not None and value.type.tensor_type.HasField("shape"):
            graph.input[-1].type.tensor_type.shape.dim[axis].dim_value = size
    for tensor in model.graph.initializer:
        if tensor.ByteSize() > _LARGE_BYTES or tensor.data_location == onnx.TensorProto.EXTERNAL:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        else:
            graph.initializer.append(tensor)
    for value in model.graph.output:
        graph.output.append(value)
        if value.type.HasField("tensor_type"):
            graph.output[-1].type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except Exception:  # noqa: BLE001 - onnx raises what it likes; then nothing is known
        return
    for value in inferred.graph.output:
        if (shape := _shape(value.type)) is not None:
            yield value.name, shape
