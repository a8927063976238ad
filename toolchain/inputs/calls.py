"""Several real calls of a model: what it takes, which axes are dynamic, and what the export is proven on.

torch.onnx.InputObserver has the same idea; it does not say which lengths are equal, and loses the keys of dicts.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from exporters.errors import in_words
from exporters.input_tree import Tree, leaves, planted
from toolchain.errors import BadUsage
from toolchain.inputs import examples, sources
from toolchain.inputs.examples import Axes, Kept, arrays_of
from toolchain.inputs.input_specs import BATCH
from toolchain.inputs.samples import Samples

_MOST = 32
_ABSENT = object()
Call = dict[str, torch.Tensor]
Lengths = tuple[int | None, ...]
"""Of one axis, call by call; None where its input is not given."""


def of_calls(name: str, module: torch.nn.Module) -> Kept:
    """The calls under ``name`` (``file.py:calls``): a list of them, or a function that returns or yields them.

    A call is a dict of keyword arguments, a tuple of positional ones, ``(tuple, dict)`` of both, or one tensor. The
    file takes what the call with the most tensors gives; an axis whose length changes from call to call is dynamic,
    and axes that are equally long in every call share a name.
    """
    given = [keywords(call, module, f"call {place + 1} of {name}") for place, call in enumerate(_all(name))]
    if not given:
        raise BadUsage(f"{name} gives no call.", "Give at least one, better three of different lengths.")
    tensors: list[Call] = []
    trees: list[dict[str, Tree]] = []
    for call in given:
        tensors.append({})
        trees.append({parameter: planted(value, parameter, tensors[-1]) for parameter, value in call.items()})
    fullest = max(range(len(given)), key=lambda place: (len(tensors[place]), _size(tensors[place])))
    if not tensors[fullest]:
        raise BadUsage(f"{name} gives no tensor.", "Call the model with tensors.")
    _require_alike(tensors, fullest, name)
    _require_one_way(trees, fullest, name)
    axes = _axes(tensors, fullest)
    kept = examples.of_arrays(arrays_of(tensors[fullest]), name, takes=trees[fullest], axes=axes)
    same = [place for place in range(len(given)) if place != fullest and trees[place] == trees[fullest]]
    fewer = len(given) - 1 - len(same)
    notes = (f"{fewer} of the calls leave inputs out: the file takes them all, and is not compared on those.",)
    return replace(kept, others=tuple(arrays_of(tensors[place]) for place in same), notes=notes if fewer else ())


def of_samples(given: Samples) -> Kept:
    """The samples of a recipe as what an export is traced and proven on.

    Where they are of unequal shapes, some of each are calls, and the axes that change are dynamic beside the batch.
    """
    if all(isinstance(array, np.ndarray) for array in given.inputs.values()):
        return examples.of_arrays({name: np.asarray(array) for name, array in given.inputs.items()}, given.source)
    rows: dict[tuple[tuple[int, ...], ...], int] = {}
    for row in range(len(given)):
        rows.setdefault(tuple(np.shape(array[row]) for array in given.inputs.values()), row)
    tensors: list[Call] = [
        {name: torch.from_numpy(np.asarray(array[row])[np.newaxis]) for name, array in given.inputs.items()}
        for row in list(rows.values())[:_MOST]
    ]
    fullest = max(range(len(tensors)), key=lambda place: _size(tensors[place]))
    kept = examples.of_arrays(arrays_of(tensors[fullest]), given.source, axes=_axes(tensors, fullest))
    return replace(kept, others=tuple(arrays_of(call) for place, call in enumerate(tensors) if place != fullest))


def _all(name: str) -> list[Any]:
    found = sources.attribute_named(name)
    try:
        found = found() if callable(found) else found
        if not isinstance(found, Iterable) or isinstance(found, (Mapping, torch.Tensor, str)):
            raise BadUsage(
                f"{name} is a {type(found).__name__}, not a list of calls.", "Make it a list of dicts of tensors."
            )
        given = list(islice(found, _MOST + 1))
        if len(given) > _MOST:
            raise BadUsage(f"{name} gives more than {_MOST} calls.", "Give fewer, of different lengths.")
        return given
    except (BadUsage, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise BadUsage(f"{name} raised {in_words(error)}.", "Run it with python first.") from error


def keywords(call: Any, module: torch.nn.Module, which: str) -> dict[str, Any]:
    """The call's arguments by the names of forward()."""
    match call:
        case (tuple() | list() as positional, Mapping() as others):
            keywords = dict(others)
        case Mapping():
            positional, keywords = (), dict(call)
        case tuple() | list():
            positional, keywords = call, {}
        case torch.Tensor():
            positional, keywords = (call,), {}
        case _:
            raise BadUsage(f"{which} is a {type(call).__name__}.", "Give a dict of tensors by forward()'s names.")
    try:
        bound = inspect.signature(module.forward).bind(*positional, **keywords)
    except TypeError as error:
        raise BadUsage(
            f"{which} does not fit forward(): {in_words(error)}.", "Call it as forward() is written."
        ) from error
    arguments: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            arguments |= {f"{name}{place}": each for place, each in enumerate(value)}
        elif value is not None or bound.signature.parameters[name].default is not None:
            arguments[name] = value
    return arguments


def _require_alike(calls: list[Call], fullest: int, name: str) -> None:
    for place, call in enumerate(calls):
        for key, value in call.items():
            known = calls[fullest].get(key)
            if known is None:
                raise BadUsage(
                    f"No call of {name} gives {', '.join({**calls[fullest], key: value})} together.",
                    "Give one call with every input: a file takes the same ones each time.",
                )
            if (value.dtype, value.ndim) != (known.dtype, known.ndim):
                raise BadUsage(
                    f"'{key}' is {_kind(known)} in one call of {name} and {_kind(value)} in call {place + 1}.",
                    "Give it one type and as many axes each time.",
                )


def _require_one_way(trees: list[dict[str, Tree]], fullest: int, name: str) -> None:
    """Refuse calls whose constants differ: a file is one of them."""
    for place, call in enumerate(trees):
        for parameter in {*call, *trees[fullest]}:
            there, here = trees[fullest].get(parameter, _ABSENT), call.get(parameter, _ABSENT)
            if there != here and not (here is _ABSENT and any(leaves(there))):
                raise BadUsage(
                    f"'{parameter}' is another constant in call {place + 1} of {name} than in call {fullest + 1}.",
                    "Export once for each: a file has one of them.",
                )


def _axes(calls: list[Call], fullest: int) -> Axes:
    """The dynamic axes: those that change, and the first of all inputs where it is the same batch throughout."""
    firsts = {value.shape[0] for call in calls for value in call.values() if value.ndim}
    names: dict[Lengths, str] = {}
    axes: Axes = {name: {} for name in calls[fullest]}
    for name, value in calls[fullest].items():
        for axis in range(value.ndim):
            lengths = tuple(call[name].shape[axis] if name in call else None for call in calls)
            changes = len(set(lengths) - {None}) > 1 or (axis == 0 and len(firsts) == 1)
            known = next((names[other] for other in names if _may_be_equal(lengths, other)), None)
            if known is not None and (changes or None in lengths):
                axes[name][axis] = known
            elif changes:
                is_batch = axis == 0 and BATCH not in names.values()
                axes[name][axis] = names[lengths] = BATCH if is_batch else f"{name.replace('.', '_')}_{axis}"
    return axes


def _may_be_equal(lengths: Lengths, others: Lengths) -> bool:
    return all(one == other or None in (one, other) for one, other in zip(lengths, others, strict=True))


def _size(call: Call) -> int:
    return sum(value.numel() for value in call.values())


def _kind(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of {value.ndim} axes"
