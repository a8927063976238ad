"""Inputs from a seed, for when nothing real is given: of shapes and values on which the model has been seen to run."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters import feeds
from exporters.batch_axes import BatchAxes, Shape
from exporters.feeds import Array, SampleSet
from exporters.model_file import ModelFile
from runtimes.base import FEEDABLE, MEND_TYPE, STRINGS, run
from runtimes.errors import NotLoadable, ProviderUnavailable, RunFailed
from runtimes.ort import OrtRuntime
from toolchain.errors import BadUsage
from toolchain.inputs import axis_lengths
from toolchain.inputs.axis_lengths import Lengths
from toolchain.inputs.input_roles import Kind, Role, roles_of
from toolchain.inputs.samples import Samples

_WORDS = ("a", "the", "model", "Seed", "12", "")
_UNKNOWN_ROWS = (16, 2, 1)
"""How far indices go into a table of unknown length, one try after the other."""
_LARGEST = 2**24
"""Elements of an input at most: longer axes are not tried."""
_SHORTEST_PART = 0.75
"""The share of a mask that is ones at least; the rest is a tail of zeros, as in padded sequences."""
_FEW = 3
_RUN_ON = 16


def samples_for(model: ModelFile, count: int) -> Samples:
    """``count`` samples from a seed, whole batches of a fixed size, on which ``model`` has run without giving NaN.

    Lengths that the file leaves open are 16, else what the model is found to take. Raises BadUsage where nothing fits.
    """
    if not model.inputs:
        raise BadUsage(f"{model} has no inputs: it gives one answer for ever.", "Keep that answer.")
    axes, roles = model.batch_axes, roles_of(model.proto)
    for value in model.inputs:
        if value.dtype not in FEEDABLE and value.dtype != STRINGS:
            raise BadUsage(f"The model's input '{value.name}' is {value.dtype}, which nnx cannot feed.", MEND_TYPE)
    count = -(-count // (axes.fixed or 1)) * (axes.fixed or 1)
    types = {value.name: value.dtype for value in model.inputs}
    makers = (_Maker(axes, roles, types, *tried) for tried in _tries(axes, roles))
    makers = (maker for maker in makers if maker.largest <= _LARGEST)
    why = ""
    try:
        with OrtRuntime(model.path) as runtime:
            for maker in makers:
                failure = _failure(runtime, maker.samples(axes.fixed or 1), axes)
                if not failure:
                    made = maker.samples(count)
                    failure = _failure(runtime, feeds.some(made, axes, 0, _RUN_ON), axes)
                    if not failure:
                        return _as_samples(made, axes)
                why = why or failure
    except (NotLoadable, ProviderUnavailable):  # whoever runs it says so, and may do it elsewhere
        if (first := next(makers, None)) is not None:
            return _as_samples(first.samples(count), axes)
    raise BadUsage(
        f"{model} does not run on values that nnx makes up: {why or 'they are too large'}.",
        "Give real ones with --calibration, --eval or --samples.",
    )


def _as_samples(made: SampleSet, axes: BatchAxes) -> Samples:
    return Samples(inputs=made, labels=None, source="seeded random values", real=False, layout=axes)


def _failure(runtime: OrtRuntime, made: SampleSet, axes: BatchAxes) -> str:
    """Why the model has no right answer to one of the calls, empty where it has."""
    for call in feeds.calls(made, axes, axes.fixed or _RUN_ON):
        try:
            outputs = run(runtime, call)
        except RunFailed as failed:
            return failed.what.rstrip(".")
        except MemoryError:
            return "there is not enough memory"
        for name, value in outputs.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and np.isnan(value).any():
                return f"its output '{name}' holds NaN"
    return ""


def _tries(axes: BatchAxes, roles: Mapping[str, Role]) -> Iterator[tuple[Lengths, int, bool]]:
    """(lengths of the open axes, rows of tables of unknown length, whether masks are ones where nothing counts).

    The likeliest first.
    """
    senses = (False, True) if any(role.kind is Kind.MASK for role in roles.values()) else (False,)
    open_tables = any(role.kind is Kind.INDEX and role.rows is None for role in roles.values())
    shapes = {name: shape for name, shape in axes.shapes.items() if shape is not None}
    demanded = {name: dict(role.lengths) for name, role in roles.items()}
    for rows in _UNKNOWN_ROWS if open_tables else _UNKNOWN_ROWS[:1]:
        for lengths in axis_lengths.tries(shapes, axes, demanded):
            yield from ((lengths, rows, sense) for sense in senses)


class _Maker:
    """Values in the shapes that ``lengths`` give; the same at every call. ``padding`` turns masks round."""

    def __init__(
        self,
        axes: BatchAxes,
        roles: Mapping[str, Role],
        types: Mapping[str, str],
        lengths: Lengths,
        rows: int,
        padding: bool,
    ) -> None:
        self._axes, self._roles, self._types, self._rows, self._padding = axes, roles, types, rows, padding
        self._shapes = {name: self._one(name, axes.shapes.get(name), lengths) for name in types}

    @property
    def largest(self) -> int:
        return max((math.prod(shape) for shape in self._shapes.values()), default=0)

    def samples(self, count: int) -> dict[str, npt.NDArray[Any]]:
        """Of an input without a batch axis one value a sample, or one for all where several share a call."""
        random = np.random.default_rng(0)
        made: dict[str, Array] = {}
        for name, shape in self._shapes.items():
            shared = self._axes.inputs.get(name) is None and (self._axes.fixed or 1) > 1
            values = self._values(name, (1 if shared else count, *shape), random)
            made[name] = np.asarray(values[0]) if shared else values
        return made

    def _one(self, name: str, shape: Shape | None, lengths: Lengths) -> tuple[int, ...]:
        """One sample's shape."""
        axis = self._axes.inputs.get(name)
        return tuple(lengths[name, place] for place in range(len(shape or ())) if place != axis)

    def _values(self, name: str, shape: tuple[int, ...], random: np.random.Generator) -> Array:
        role, kind = self._roles[name], self._types[name]
        if kind == STRINGS:
            words: Array = np.array(_WORDS)[random.integers(0, len(_WORDS), shape)]
            return words
        dtype = np.dtype(kind)
        if role.kind is Kind.MASK:
            mask: Array = _mask(shape) != self._padding
            return mask.astype(dtype)
        if dtype == np.uint8 and role.kind is Kind.PLAIN:  # pixels
            return _spread(256, shape, random).astype(dtype)
        if dtype.kind == "f":
            values: Array = random.standard_normal(shape, np.float32)
            if role.kind is Kind.POSITIVE:
                values = np.abs(values) + 0.1
            elif role.kind is Kind.UNIT:
                values = random.uniform(0.3, 0.7, shape)
            return values.astype(dtype)
        if role.kind is Kind.LENGTH:
            longest = self._longest()
            return (
                np.maximum(1, longest - np.arange(math.prod(shape)) % max(longest // 2, 1)).reshape(shape).astype(dtype)
            )
        if role.kind is Kind.COUNT:
            return np.full(shape, _FEW, dtype)
        rows = (role.rows or self._rows) if role.kind is Kind.INDEX else self._rows
        return _spread(rows, shape, random).astype(dtype)

    def _longest(self) -> int:
        """Of the sequences whose lengths an input gives: the first axis of the largest other input."""
        others = [shape for name, shape in self._shapes.items() if self._roles[name].kind is not Kind.LENGTH and shape]
        return max(others, key=len)[0] if others else 1


def _mask(shape: tuple[int, ...]) -> Array:
    """Ones with a tail of zeros along the last axis, another in each sample; one value is true and false by turns."""
    if len(shape) < 2:
        return np.asarray(np.arange(math.prod(shape)).reshape(shape) % 2 == 0)
    longest = shape[-1]
    tails = np.arange(shape[0]) % (int(longest * (1 - _SHORTEST_PART)) + 1)
    keep = np.arange(longest) < longest - tails[:, None]
    return np.broadcast_to(keep.reshape(shape[0], *(1,) * (len(shape) - 2), longest), shape)


def _spread(rows: int, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Whole numbers from 0 to ``rows`` - 1, each as often as the others as far as they go round."""
    total = math.prod(shape)
    values = np.arange(total) % rows if total >= rows else (np.arange(total) * (rows - 1)) // max(total - 1, 1)
    return random.permutation(values).reshape(shape)
