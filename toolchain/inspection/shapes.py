"""The shapes of a model's tensors once its open axes have lengths: given ones, or such as fit."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir

from exporters import skeleton
from exporters.batch_axes import NAMELESS, BatchAxes
from exporters.symbolic_shapes import with_symbolic_shapes
from toolchain.errors import BadUsage
from toolchain.inputs import axis_lengths
from toolchain.inputs.input_roles import roles_of
from toolchain.inspection.inlining import callers_in, inlined

_MOST_TRIES = 4
_LOOKED_AT = 40
_SHAPE_ERRORS = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)
Shape = tuple[int | None, ...]
"""None for an axis of unknown length."""


@dataclass(frozen=True)
class Shaped:
    """``model`` is a skeleton without functions, its axes fixed; ``lengths`` are those by name, ``assumed`` the names
    of those that nobody gave."""

    model: onnx.ModelProto
    lengths: Mapping[str, int]
    assumed: tuple[str, ...]
    callers: Mapping[str, str]
    """A node that came out of a local function -> the node of the main graph that called it, by their labels."""


class Shapes:
    """The shapes that one graph states, and the graphs around it."""

    def __init__(self, graph: onnx.GraphProto, outer: "Shapes | None" = None) -> None:
        self._outer = outer
        self._known: dict[str, Shape] = {}
        for value in (*graph.value_info, *graph.output, *graph.input):
            kind = value.type.tensor_type
            if value.type.HasField("tensor_type") and kind.HasField("shape"):
                axes = kind.shape.dim
                self._known[value.name] = tuple(map(_length, axes))
        for tensor in graph.initializer:
            self._known[tensor.name] = tuple(tensor.dims)

    def of(self, name: str) -> Shape | None:
        """None for a tensor of which nothing is known."""
        if name in self._known:
            return self._known[name]
        return None if self._outer is None else self._outer.of(name)


def _length(axis: onnx.TensorShapeProto.Dimension) -> int | None:
    """Some write -1 for an open one."""
    return int(axis.dim_value) if axis.HasField("dim_value") and axis.dim_value >= 0 else None


def open_axes(model: onnx.ModelProto) -> dict[str, list[tuple[str, int]]]:
    """The axes of inputs that have no fixed length: their name -> (input, axis); ``x:0`` for those without a name."""
    weights = {tensor.name for tensor in model.graph.initializer}
    found: dict[str, list[tuple[str, int]]] = {}
    for value in model.graph.input:
        if value.name in weights or not value.type.HasField("tensor_type"):
            continue
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if not (axis.HasField("dim_value") and axis.dim_value >= 0):
                name = axis.dim_param if axis.dim_param not in ("", NAMELESS) else f"{value.name}:{place}"
                found.setdefault(name, []).append((value.name, place))
    return found


def shaped(model: onnx.ModelProto, given: Mapping[str, int]) -> Iterator[Shaped]:
    """``model`` with its open axes fixed: those in ``given``, a batch at 1, the others at what inference accepts.

    The likeliest first; at least one. Raises BadUsage for an axis in ``given`` that the model does not have.
    """
    axes = open_axes(model)
    if unknown := sorted(set(given) - set(axes)):
        has = f"Its open axes are {', '.join(axes)}." if axes else "All its axes are fixed."
        raise BadUsage(f"No input has an open axis '{unknown[0]}'.", has)
    whole = skeleton.skeleton(model)
    thin = inlined(whole)
    callers = dict(callers_in(whole, thin))
    del thin.graph.value_info[:]
    assumed = tuple(name for name in axes if name not in given)
    tries = list(_tries(model, axes, given))
    fits = False
    for lengths in tries:
        if (made := _inferred(thin, axes, lengths, strict=True)) is not None:
            fits = True
            yield Shaped(made, lengths, assumed, callers)
    if not fits:
        yield Shaped(_inferred(thin, axes, tries[0], strict=False) or thin, tries[0], assumed, callers)


def _tries(
    model: onnx.ModelProto, axes: Mapping[str, list[tuple[str, int]]], given: Mapping[str, int]
) -> Iterator[dict[str, int]]:
    """Each once; those that give all axes one length before others."""
    batch = BatchAxes.of_inputs(model)
    shapes = {name: shape for name, shape in batch.shapes.items() if shape is not None}
    demanded = {name: dict(role.lengths) for name, role in roles_of(model).items()}

    batched = {name for name, places in axes.items() if any(batch.inputs.get(n) == place for n, place in places)}

    def named(lengths: axis_lengths.Lengths) -> dict[str, int]:
        told = {name: lengths.get(places[0], 1) for name, places in axes.items()}
        return {**told, **dict.fromkeys(batched, 1), **given}

    tries = [named(each) for each in itertools.islice(axis_lengths.tries(shapes, batch, demanded), _LOOKED_AT)]
    free = [name for name in axes if name not in given and name not in batched]
    tries.sort(key=lambda lengths: len({lengths[name] for name in free}))
    found = {tuple(lengths.items()): lengths for lengths in (*tries, {**dict.fromkeys(axes, 1), **given})}
    yield from itertools.islice(found.values(), _MOST_TRIES)


def _inferred(
    thin: onnx.ModelProto, axes: Mapping[str, list[tuple[str, int]]], lengths: Mapping[str, int], *, strict: bool
) -> onnx.ModelProto | None:
    """The model with its shapes; None where they contradict each other."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(thin)
    places = {place: lengths[name] for name, found in axes.items() for place in found}
    for value in fixed.graph.input:
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if (value.name, place) in places:
                axis.dim_value = places[value.name, place]
    for value in fixed.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(fixed, strict_mode=strict, data_prop=True)
    except _SHAPE_ERRORS:
        return None


def ways_to_more(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """``model`` with more shapes than onnx's inference tells at once, by one library after the other.

    onnxscript computes what depends on shapes alone; ONNX Runtime's symbolic inference knows its own operators.
    """
    folded = _attempted(_folded, model)
    yield folded
    yield _attempted(with_symbolic_shapes, folded)


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxscript import optimizer  # half a second, for what few models need

    passing = onnx_ir.from_proto(model)
    limits = {"input_size_limit": skeleton.SMALL, "output_size_limit": skeleton.SMALL}
    optimizer.fold_constants(passing, onnx_shape_inference=True, should_fold=_is_small_constant, **limits)
    return onnx.shape_inference.infer_shapes(onnx_ir.to_proto(passing), data_prop=True)


def _is_small_constant(node: onnx_ir.Node) -> bool | None:
    """True for a ConstantOfShape as small as shapes are, which onnxscript leaves; None where it decides itself."""
    shape = node.inputs[0].const_value if node.op_type == "ConstantOfShape" and node.inputs[0] is not None else None
    return True if shape is not None and int(np.prod(shape.numpy(), dtype=object)) <= skeleton.SMALL else None


def _attempted(step: Callable[[onnx.ModelProto], onnx.ModelProto], model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        return step(copy)
    except Exception:  # noqa: BLE001 - libraries raise whatever Python does of a graph that they did not expect
        return model
