"""From what a model gives, sequences and maps too, to arrays that can be compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.accuracy.one_by_one import OneByOne

Array = npt.NDArray[Any]
Call = Mapping[str, Any]
"""An output's name and its value."""
Calls = Sequence[Call]
"""Of each call in turn; they need not all be in memory."""


class NotAlike(Exception):
    """Two values that cannot be compared; the message goes on after an output's name."""


def unfolded(name: str, expected: Calls, got: Calls) -> dict[str, tuple[Sequence[Array], Sequence[Array]]]:
    """(The reference's arrays, the result's), one a call each, by the name of the output or of a part of it.

    A sequence has parts ``name[0]``, ``name[1]``; a map, or a list of maps such as ZipMap gives, is one array whose
    last axis are the keys. The arrays are taken from the calls when they are asked for. Raises NotAlike where the two
    are not built alike, KeyError where an output is not there.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for number, (one, other) in enumerate(zip(expected, got, strict=True)):
        before, after = parts(name, one[name]), parts(name, other[name])
        if [part[:2] for part in before] != [part[:2] for part in after]:
            raise NotAlike(f"has {len(after):,} parts, and others than the {len(before):,} of the reference")
        for index, ((part, _, w), (_, _, g)) in enumerate(zip(before, after, strict=True)):
            if _sort(w) != _sort(g):
                raise NotAlike(f"is {g.dtype}, and {w.dtype} in the reference")
            places.setdefault(part, []).append((number, index))
    return {part: (_taken(name, expected, found), _taken(name, got, found)) for part, found in places.items()}


def _taken(name: str, calls: Calls, places: Sequence[tuple[int, int]]) -> Sequence[Array]:
    """Of each place, (a call, a part of its value), the array."""
    return OneByOne(len(places), lambda place: parts(name, calls[places[place][0]][name])[places[place][1]][2])


def parts(name: str, value: Any) -> list[tuple[str, tuple[Any, ...], Array]]:
    """(Name, the keys if it was made of maps, array) of one value, or of the members of a sequence."""
    return list(_parts(name, value))


def lifted(array: Array, batch: int | None) -> Array:
    """With the samples on axis 0: an output without a batch axis is one sample a call."""
    if batch is None or batch >= array.ndim:
        return array[np.newaxis]
    return np.moveaxis(array, batch, 0) if batch else array[:]


def axis_before(axis: int, batch: int | None) -> int:
    """Which axis of an output ``axis`` (1 or more) of the lifted one was."""
    return axis if batch is not None and axis > batch else axis - 1


def _parts(name: str, value: Any) -> Iterator[tuple[str, tuple[Any, ...], Array]]:
    """(Name, the keys if it was made of maps, array)."""
    if isinstance(value, dict):
        keys = tuple(sorted(value))
        yield name, keys, np.array([np.asarray(value[key]) for key in keys])
    elif isinstance(value, (list, tuple)):
        if value and all(isinstance(each, dict) for each in value):
            keys = tuple(sorted(value[0]))
            if any(tuple(sorted(each)) != keys for each in value):
                raise NotAlike("has maps with different keys")
            yield name, keys, np.array([[np.asarray(each[key]) for key in keys] for each in value])
            return
        for index, each in enumerate(value):
            yield from _parts(f"{name}[{index}]", each)
    else:
        array = np.asarray(value)
        yield name, (), array.astype(np.float32) if _is_bfloat16(array.dtype) else array


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "V" and dtype.name == "bfloat16"  # numpy makes the name anew each time


def _sort(array: Array) -> str:
    """Floats of every width are one sort, and so are whole numbers, texts, truths."""
    return {"i": "whole", "u": "whole", "f": "float", "b": "bool"}.get(array.dtype.kind, "text")
