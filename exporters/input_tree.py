"""What forward() takes for one parameter: tensors in lists, tuples, dicts and dataclasses, and constants."""

import copy
import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from exporters.errors import BadOption

Tree = Any
"""What forward() takes for one parameter: an input's name (an :class:`Input`), a list, tuple, dict or dataclass of such
trees, or a constant."""


@dataclasses.dataclass(frozen=True)
class Input:
    """A place in a tree that a tensor takes."""

    name: str


def leaves(tree: Tree) -> Iterator[str]:
    """The names of the inputs in a tree, in order."""
    if isinstance(tree, Input):
        yield tree.name
    elif isinstance(tree, Mapping):
        for inner in tree.values():
            yield from leaves(inner)
    elif isinstance(tree, (list, tuple)):
        for inner in tree:
            yield from leaves(inner)
    elif dataclasses.is_dataclass(tree):
        for inner in _fields(tree).values():
            yield from leaves(inner)


def planted(tree: Tree, name: str, tensors: dict[str, torch.Tensor]) -> Tree:
    """``tree`` of tensors, or arrays, as one of names, ``name`` and below; the tensors go to ``tensors``."""
    if isinstance(tree, np.ndarray) and tree.dtype.kind in "biuf":
        tree = torch.from_numpy(tree)
    if isinstance(tree, torch.Tensor):
        if name in tensors:
            raise BadOption(f"Two of the inputs would be called '{name}'.", "Give their keys other names.")
        tensors[name] = tree
        return Input(name)
    if isinstance(tree, Mapping):
        return {key: planted(inner, f"{name}.{key}", tensors) for key, inner in tree.items()}
    if isinstance(tree, (list, tuple)):
        places = getattr(tree, "_fields", range(len(tree)))
        return _like(
            tree, [planted(inner, f"{name}.{place}", tensors) for place, inner in zip(places, tree, strict=True)]
        )
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {key: planted(inner, f"{name}.{key}", tensors) for key, inner in _fields(tree).items()}
        return _with_fields(tree, fields)
    if tree is None or isinstance(tree, (bool, int, float, str, enum.Enum, torch.dtype)):
        return tree
    raise BadOption(
        f"The example '{name}' is a {type(tree).__name__}.",
        "Give a tensor, or a list, tuple, dict or dataclass of tensors.",
    )


def grown(takes: Mapping[str, Tree], parameters: set[str]) -> dict[str, Tree]:
    """``parts.0`` and ``parts.1`` as a list, ``parts.left`` and others as a dict, where forward() has ``parts``."""
    grown: dict[str, Any] = {}
    for name, tree in takes.items():
        words = name.split(".")
        if words[0] not in parameters:
            words = [name]
        place = grown
        for word in words[:-1]:
            place = place.setdefault(word, _Branch())
            if not isinstance(place, _Branch):
                raise BadOption(f"'{name}' lies in '{word}', which is an input itself.", "Give one or the other.")
        if words[-1] in place:
            raise BadOption(f"'{name}' is given twice.", "Give it once.")
        place[words[-1]] = tree
    return {name: _ripe(tree) for name, tree in grown.items()}


class _Branch(dict[str, Any]):
    """A list or dict while it grows."""


def _ripe(tree: Any) -> Tree:
    if not isinstance(tree, _Branch):
        return tree
    if list(tree) == [str(place) for place in range(len(tree))]:
        return [_ripe(inner) for inner in tree.values()]
    return {name: _ripe(inner) for name, inner in tree.items()}


def filled(tree: Tree, tensors: Mapping[str, torch.Tensor]) -> Any:
    """``tree`` with tensors in the places of their names: what forward() is given."""
    if isinstance(tree, Input):
        return tensors[tree.name]
    if isinstance(tree, Mapping):
        return {key: filled(inner, tensors) for key, inner in tree.items()}
    if isinstance(tree, (list, tuple)):
        return _like(tree, [filled(inner, tensors) for inner in tree])
    if dataclasses.is_dataclass(tree):
        return _with_fields(tree, {key: filled(inner, tensors) for key, inner in _fields(tree).items()})
    return tree


def _fields(tree: Any) -> dict[str, Any]:
    return {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}


def _with_fields(tree: Any, fields: Mapping[str, Any]) -> Any:
    """A copy with these values, whatever its class does when one is made."""
    made = copy.copy(tree)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def _like(sequence: Sequence[Any], items: list[Any]) -> Any:
    make: Callable[..., Any] = type(sequence)
    return make(*items) if hasattr(sequence, "_fields") else make(items)
