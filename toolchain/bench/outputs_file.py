"""What a row's process saves of its calls' outputs, for the process that judges them: numpy's ``.npz``, no pickles.

The arrays stand under numbers, and beside them how each call's values are built of them. A row's process may have
numpy and onnxruntime alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Calls = Sequence[Mapping[str, Any]]
"""Of each call, output name -> an array, a list (a sequence), a dict or a list of dicts (a map); None for no value."""
_BUILT = "built"
_ARRAY, _LIST, _MAP, _MAPS, _NONE = "array", "list", "map", "maps", "none"


def write(path: Path, calls: Calls) -> None:
    """Save ``calls``; text arrays become numpy's own."""
    arrays: list[np.ndarray[Any, Any]] = []
    built = json.dumps([{name: _taken_apart(value, arrays) for name, value in call.items()} for call in calls])
    members: dict[str, Any] = {str(number): array for number, array in enumerate(arrays)}
    members[_BUILT] = np.array(built)
    np.savez(path, **members)


def read(path: Path) -> list[dict[str, Any]]:
    """What :func:`write` saved."""
    with np.load(path) as members:
        return [
            {name: _put_together(value, members) for name, value in call.items()}
            for call in json.loads(str(members[_BUILT]))
        ]


def _taken_apart(value: Any, arrays: list[np.ndarray[Any, Any]]) -> list[Any]:
    if value is None:
        return [_NONE]
    if isinstance(value, dict):
        return [_MAP, list(value), _kept(list(value.values()), arrays)]
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(each, dict) and each.keys() == value[0].keys() for each in value):
            keys = list(value[0])  # a map for each of thousands of samples: one array
            return [_MAPS, keys, _kept([[each[key] for key in keys] for each in value], arrays)]
        return [_LIST, [_taken_apart(each, arrays) for each in value]]
    return [_ARRAY, _kept(value, arrays)]


def _kept(value: Any, arrays: list[np.ndarray[Any, Any]]) -> str:
    array = np.asarray(value)
    if array.dtype.kind == "O":
        array = array.astype(str)
    arrays.append(array.astype(np.float32) if array.dtype.name == "bfloat16" else array)
    return str(len(arrays) - 1)


def _put_together(built: list[Any], members: Any) -> Any:
    sort, *rest = built
    if sort == _NONE:
        return None
    if sort == _LIST:
        return [_put_together(each, members) for each in rest[0]]
    array = members[rest[-1]]
    if sort == _ARRAY:
        return array
    if sort == _MAP:
        return dict(zip(rest[0], array, strict=True))
    return [dict(zip(rest[0], row, strict=True)) for row in array]
