"""Lengths for the axes that a file leaves open, the likeliest first: to be tried until the model takes them."""

import ast
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from exporters.batch_axes import NAMELESS, BatchAxes, Shape
from toolchain.inputs.input_specs import BATCH

Lengths = Mapping[tuple[str, int], int]
"""(Input, axis) -> its length; the batch's is left out of use by whoever stacks."""
_USUAL = 16
_OTHERS = (32, 64, 128, 224, 256, 512, 8, 4, 3, 2, 1)
_MOST_SUMS = 24


def tries(
    shapes: Mapping[str, Shape], axes: BatchAxes, demanded: Mapping[str, Mapping[int, int]] | None = None
) -> Iterator[Lengths]:
    """Every axis one length, then some the sum of others (a mask's past + now), then other lengths.

    Axes of one name have one length, and a name such as "past + 1" its own; ``demanded`` are those that weights want,
    by axes counted from the end.
    """
    names = {
        (name, place): _name(name, place, axis)
        for name, shape in shapes.items()
        for place, axis in enumerate(shape)
        if isinstance(axis, str) and place != axes.inputs.get(name)
    }
    known = {
        names[name, len(shape) + place]: length
        for name, shape in shapes.items()
        for place, length in (demanded or {}).get(name, {}).items()
        if (name, len(shape) + place) in names
    }
    if axes.name is not None:
        known[axes.name] = 1
    free = list(dict.fromkeys(part for axis in names.values() for part in _parts(axis) if part not in known))
    seen = set()
    for chosen in _choices(free):
        given = {**chosen, **known}
        lengths = {
            (name, place): axis if isinstance(axis, int) else _worth(names.get((name, place), ""), given)
            for name, shape in shapes.items()
            for place, axis in enumerate(shape)
        }
        if (key := tuple(sorted(lengths.items()))) not in seen:
            seen.add(key)
            yield lengths


def named(axes: BatchAxes) -> tuple[dict[str, dict[int, str]], dict[str, Callable[[Mapping[str, int]], int]]]:
    """The names of the inputs' open axes, the batch's BATCH; and how long those are that follow from the others.

    "past + now" follows where a past and a now are axes too.
    """
    words = {
        name: {
            place: BATCH
            if place == axes.inputs.get(name) or axis == axes.name != NAMELESS
            else _name(name, place, axis)
            for place, axis in enumerate(shape)
            if isinstance(axis, str)
        }
        for name, shape in axes.shapes.items()
        if shape is not None
    }
    known = {word for own in words.values() for word in own.values()} | ({axes.name} if axes.name else set())
    computed = {word for word in known if (parts := _parts(word)) != [word] and known.issuperset(parts)}
    return words, {word: partial(_follow, word, axes.name or BATCH) for word in computed}


def _follow(word: str, batch: str, lengths: Mapping[str, int]) -> int:
    return _worth(word, {**lengths, batch: lengths.get(BATCH, 1)})


def _choices(free: list[str]) -> Iterator[dict[str, int]]:
    yield dict.fromkeys(free, _USUAL)
    yield from itertools.islice(_sums(free, _USUAL), _MOST_SUMS)
    for length in _OTHERS:
        yield dict.fromkeys(free, length)
    for length in (64, 1):
        yield from itertools.islice(_sums(free, length), _MOST_SUMS)


def _sums(free: list[str], length: int) -> Iterator[dict[str, int]]:
    """One axis is the sum of two others, one longer than the rest, or alone 1."""
    for whole in free:
        if len(free) > 2:  # past + now = all
            yield {**dict.fromkeys(free, length), whole: 2 * length}
    for whole in free:
        if len(free) > 1:
            yield {**dict.fromkeys(free, length), whole: length + 1}
            yield {**dict.fromkeys(free, length), whole: 1}
    for whole, now in itertools.permutations(free, 2):
        yield {**dict.fromkeys(free, length), whole: length + 1, now: 1}


def _name(name: str, place: int, axis: str) -> str:
    """The axis' name, its own where it has none."""
    return f"{name} {place}" if axis == NAMELESS else axis


def _parts(axis: str) -> list[str]:
    """The names that an axis such as "past + now" is the sum of, or itself."""
    tree = _parsed(axis)
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)] if tree is not None else [axis]


def _worth(axis: str, given: Mapping[str, int]) -> int:
    """A batch's is 1: samples are made apart."""
    tree = _parsed(axis)
    return max(0, _value(tree.body, given)) if tree is not None else given.get(axis, 1)


def _parsed(axis: str) -> ast.Expression | None:
    """Sums and products of names and numbers, as exporters write them; None for any other name."""
    try:
        tree = ast.parse(axis, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    allowed = (
        ast.Expression, ast.BinOp, ast.Name, ast.Constant, ast.Load, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv,
    )  # fmt: skip
    nodes = list(ast.walk(tree))
    fit = all(isinstance(node, allowed) for node in nodes)
    fit = fit and all(isinstance(node.value, int) for node in nodes if isinstance(node, ast.Constant))
    return tree if fit and any(isinstance(node, ast.Name) for node in nodes) else None


def _value(node: ast.expr, given: Mapping[str, int]) -> int:
    if isinstance(node, ast.Name):
        return given[node.id]
    if isinstance(node, ast.Constant):
        return int(node.value)  # type: ignore[arg-type]  # whole numbers alone are let in
    assert isinstance(node, ast.BinOp)
    left, right = _value(node.left, given), _value(node.right, given)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    return left * right if isinstance(node.op, ast.Mult) else left // max(right, 1)
