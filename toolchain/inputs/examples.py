"""The inputs on which an export is traced and proven, at any length of their dynamic axes: made up, or a user's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from exporters.input_tree import Input, Tree
from runtimes.base import FEEDABLE, MEND_TYPE
from toolchain import machine
from toolchain.errors import BadUsage, NotAvailable
from toolchain.inputs import input_specs
from toolchain.inputs.input_specs import BATCH, Spec

Arrays = dict[str, npt.NDArray[np.generic]]
Axes = dict[str, dict[int, str]]


class Example(Protocol):
    """``takes`` says how forward()'s arguments are made of the inputs, ``axes`` which of their axes are dynamic."""

    @property
    def takes(self) -> Mapping[str, Tree]: ...

    @property
    def source(self) -> str: ...

    @property
    def axes(self) -> Axes: ...

    @property
    def limits(self) -> Mapping[str, int]:
        """How long a dynamic axis may be, where it is known for what lengths the model is made."""

    def at(self, lengths: Mapping[str, int]) -> Arrays:
        """The inputs with these lengths of the dynamic axes."""

    def without_batch(self, names: frozenset[str]) -> Self:
        """The same, these inputs without a batch axis."""

    def with_batch_second(self, names: frozenset[str]) -> Self:
        """The same, the batch of these inputs on their axis 1, as in the states of an LSTM."""

    def first_lengths(self) -> Mapping[str, int]:
        """The length of axis 0, as it was given, of each input whose axis 0 is taken to be the batch."""

    def second_lengths(self) -> Mapping[str, int]:
        """The same inputs' length of axis 1, where that is none of the dynamic ones."""


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """Seeded noise as ``specs`` describe it; where they give whole numbers no range those are ``fill``, or below
    ``below``, 2 where it is silent. ``constants`` are what else forward() is given.
    """

    specs: tuple[Spec, ...]
    constants: Mapping[str, Tree] = field(default_factory=dict)
    fill: int | None = None
    below: Mapping[str, int] = field(default_factory=dict)
    source: str = "seeded random values"
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def takes(self) -> Mapping[str, Tree]:
        return {**{spec.name: Input(spec.name) for spec in self.specs}, **self.constants}

    @property
    def axes(self) -> Axes:
        return {spec.name: _names(spec.shape) for spec in self.specs}

    def at(self, lengths: Mapping[str, int]) -> Arrays:
        shapes = {
            spec.name: tuple(axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape)
            for spec in self.specs
        }
        _require_memory(sum(8 * _count(shape) for shape in shapes.values()))
        random = np.random.default_rng(0)
        made: Arrays = {}
        for spec in self.specs:
            shape = shapes[spec.name]
            if spec.has_range or np.issubdtype(np.dtype(spec.dtype), np.floating):
                values: npt.NDArray[Any] = spec.drawn(random, shape)
            elif self.fill is not None:
                values = np.full(shape, self.fill)
            else:
                values = np.asarray(random.integers(0, self.below.get(spec.name, 2), shape))
            made[spec.name] = values.astype(spec.dtype)
        return made

    def without_batch(self, names: frozenset[str]) -> "MadeUp":
        specs = [
            replace(spec, shape=(spec.first, *spec.shape[1:])) if spec.name in names and spec.first else spec
            for spec in self.specs
        ]
        return replace(self, specs=tuple(specs))

    def with_batch_second(self, names: frozenset[str]) -> "MadeUp":
        specs = [
            replace(spec, shape=(spec.first, BATCH, *spec.shape[2:])) if spec.name in names and spec.first else spec
            for spec in self.specs
        ]
        return replace(self, specs=tuple(specs))

    def first_lengths(self) -> Mapping[str, int]:
        return {spec.name: spec.first for spec in self.specs if spec.first}

    def second_lengths(self) -> Mapping[str, int]:
        return {
            spec.name: spec.shape[1]
            for spec in self.specs
            if spec.first and len(spec.shape) > 1 and isinstance(spec.shape[1], int)
        }


@dataclass(frozen=True, kw_only=True)
class Kept:
    """``arrays`` that somebody gave; another length of a dynamic axis repeats or cuts what is there.

    ``others`` are whole calls, as they were given; ``notes`` are to be said with the result. ``follows`` has the axes
    whose length follows from that of others, and how.
    """

    takes: Mapping[str, Tree]
    arrays: Mapping[str, npt.NDArray[np.generic]]
    axes: Axes
    source: str
    others: tuple[Arrays, ...] = ()
    notes: tuple[str, ...] = ()
    follows: Mapping[str, Callable[[Mapping[str, int]], int]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    def at(self, lengths: Mapping[str, int]) -> Arrays:
        lengths = {**lengths, **{word: follow(lengths) for word, follow in self.follows.items()}}
        made: Arrays = {}
        for name, array in self.arrays.items():
            for axis, word in self.axes[name].items():
                array = np.take(array, np.arange(lengths[word]), axis=axis, mode="wrap")
            made[name] = np.array(array, order="C")
        return made

    def lengths_of(self, arrays: Arrays) -> dict[str, int]:
        """The lengths of the dynamic axes in another call."""
        return {word: arrays[name].shape[axis] for name, words in self.axes.items() for axis, word in words.items()}

    def rows(self, start: int, stop: int) -> Arrays:
        """These samples, as they were given."""
        made: Arrays = {}
        for name, array in self.arrays.items():
            axis = next((place for place, word in self.axes[name].items() if word == BATCH), None)
            part = array if axis is None else np.take(array, range(start, min(stop, array.shape[axis])), axis)
            made[name] = np.array(part, order="C")
        return made

    def without_batch(self, names: frozenset[str]) -> "Kept":
        axes = {
            name: {axis: word for axis, word in words.items() if word != BATCH or name not in names}
            for name, words in self.axes.items()
        }
        return replace(self, axes=axes)

    def with_batch_second(self, names: frozenset[str]) -> "Kept":
        made = self.without_batch(names)
        return replace(
            made, axes={name: {**words, **({1: BATCH} if name in names else {})} for name, words in made.axes.items()}
        )

    def first_lengths(self) -> Mapping[str, int]:
        return {name: len(self.arrays[name]) for name, words in self.axes.items() if words.get(0) == BATCH}

    def second_lengths(self) -> Mapping[str, int]:
        return {
            name: self.arrays[name].shape[1]
            for name in self.first_lengths()
            if self.arrays[name].ndim > 1 and 1 not in self.axes[name]
        }


def of_specs(texts: Sequence[str]) -> MadeUp:
    """What ``--input`` describes."""
    specs, constants = input_specs.parsed(texts)
    return MadeUp(specs=specs, constants=constants)


def of_arrays(
    arrays: Mapping[str, npt.NDArray[np.generic]],
    source: str,
    *,
    takes: Mapping[str, Tree] | None = None,
    specs: Sequence[str] = (),
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> Kept:
    """A user's own inputs; ``specs``, or else ``axes``, name their dynamic axes, without either axis 0 is the batch."""
    tensors, constants = input_specs.parsed(specs)
    described = {spec.name: spec for spec in tensors}
    if described and set(described) != set(arrays):
        raise BadUsage(
            f"{source} has the inputs {', '.join(arrays)}, --input names {', '.join(described)}.", "Give both the same."
        )
    for name, spec in described.items():
        if len(spec.shape) != arrays[name].ndim:
            raise BadUsage(
                f"'{name}' in {source} has {arrays[name].ndim} axes, --input {len(spec.shape)}.", "Mend one."
            )
    if strange := next((name for name, array in arrays.items() if str(array.dtype) not in FEEDABLE), None):
        raise BadUsage(f"The input '{strange}' of {source} is {arrays[strange].dtype}.", MEND_TYPE)
    if empty := next((name for name, array in arrays.items() if not array.size), None):
        raise BadUsage(f"The input '{empty}' of {source} is empty.", "Give at least one value.")
    order = list(described) or list(arrays)
    known: Axes = {
        name: _names(described[name].shape) if described
        else dict(axes[name]) if axes is not None
        else {0: BATCH} if arrays[name].ndim
        else {}
        for name in order
    }  # fmt: skip
    takes = {**(takes or {name: Input(name) for name in order}), **constants}
    return Kept(takes=takes, arrays={name: arrays[name] for name in order}, axes=known, source=source)


def arrays_of(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Tensors as ONNX Runtime is fed; BadUsage for a kind that it is not."""
    return {name: _array(name, tensor) for name, tensor in tensors.items()}


def _array(name: str, tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    try:
        array: npt.NDArray[np.generic] = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # bfloat16, sparse, quantized, without values
        kind = str(tensor.dtype).removeprefix("torch.")
        raise BadUsage(
            f"The example '{name}' is a {kind} tensor, which ONNX Runtime cannot be fed.",
            "Give a dense float32 one.",
        ) from error
    return array


def _names(shape: tuple[int | str, ...]) -> dict[int, str]:
    return {place: axis for place, axis in enumerate(shape) if isinstance(axis, str)}


def _count(shape: tuple[int, ...]) -> int:
    product = 1  # of Python's own whole numbers, which do not overflow
    for length in shape:
        product *= length
    return product


def _require_memory(count: int) -> None:
    memory = machine.describe().memory_bytes
    if memory and count > memory / 2:
        raise NotAvailable(
            f"Inputs of this size take {count / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB.",
            "Describe smaller ones.",
        )
