"""What a model gave, call by call, in a file: numpy's ``.npz``, no pickles; written and read one call at a time.

The arrays stand under numbers, and beside them how each call's values are built of them. A row's process of the bench,
which writes one, may have numpy and onnxruntime alone.
"""

import json
import weakref
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from toolchain.accuracy.one_by_one import OneByOne

Call = Mapping[str, Any]
"""Output name -> an array, a list (a sequence), a dict or a list of dicts (a map); None for no value."""
_LOCAL_HEADER_BYTES = 30  # of a zip member, before its name and extra field
_BUILT = "built"
_ARRAY, _LIST, _MAP, _MAPS, _NONE = "array", "list", "map", "maps", "none"


def write(file: Path | IO[bytes], calls: Iterable[Call]) -> None:
    """Save ``calls``, each before the next is made; text arrays become numpy's own."""
    writer = Writer(file)
    for call in calls:
        writer.add(call)
    writer.close()


def read(file: Path | IO[bytes]) -> Sequence[Call]:
    """What :func:`write` saved; values are read when they are asked for, from a file that is closed with the last."""
    members = _Members(file.open("rb") if isinstance(file, Path) else file)
    built = json.loads(str(members[_BUILT]))
    return OneByOne(len(built), lambda number: _Call(built[number], members))


class Writer:
    """Takes calls as they come; nothing can be read before it is closed."""

    def __init__(self, file: Path | IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(file, "w")
        self._built: list[dict[str, list[Any]]] = []
        self._arrays = 0

    def add(self, call: Call) -> None:
        """Save one call."""
        self._built.append({name: self._taken_apart(value) for name, value in call.items()})

    def close(self) -> None:
        """Say how all was built."""
        self._member(_BUILT, np.array(json.dumps(self._built)))
        self._archive.close()

    def _taken_apart(self, value: Any) -> list[Any]:
        if value is None:
            return [_NONE]
        if isinstance(value, dict):
            return [_MAP, list(value), self._kept(list(value.values()))]
        if isinstance(value, (list, tuple)):
            if value and all(isinstance(each, dict) and each.keys() == value[0].keys() for each in value):
                keys = list(value[0])  # a map for each of thousands of samples: one array
                return [_MAPS, keys, self._kept([[each[key] for key in keys] for each in value])]
            return [_LIST, [self._taken_apart(each) for each in value]]
        return [_ARRAY, self._kept(value)]

    def _kept(self, value: Any) -> str:
        array = np.asarray(value)
        if array.dtype.kind == "O":
            array = array.astype(str)
        self._member(str(self._arrays), array.astype(np.float32) if array.dtype.name == "bfloat16" else array)
        self._arrays += 1
        return str(self._arrays - 1)

    def _member(self, name: str, array: np.ndarray[Any, Any]) -> None:
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)


class _Members:
    """The arrays of a file by name, not compressed, each read when it is asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        with zipfile.ZipFile(file) as archive:
            self._places = {each.filename.removesuffix(".npy"): each.header_offset for each in archive.infolist()}
        self._file = file
        weakref.finalize(self, file.close)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        start = self._places[name]
        self._file.seek(start)
        header = self._file.read(_LOCAL_HEADER_BYTES)
        lengths = (int.from_bytes(header[place : place + 2], "little") for place in (26, 28))
        self._file.seek(start + _LOCAL_HEADER_BYTES + sum(lengths))
        found: np.ndarray[Any, Any] = np.lib.format.read_array(self._file, allow_pickle=False)
        return found


class _Call(Mapping[str, Any]):
    """One call, each of whose values is read from ``members`` when it is asked for."""

    def __init__(self, built: Mapping[str, list[Any]], members: _Members) -> None:
        self._built, self._members = built, members

    def __getitem__(self, name: str) -> Any:
        return _put_together(self._built[name], self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._built)

    def __len__(self) -> int:
        return len(self._built)


def _put_together(built: list[Any], members: _Members) -> Any:
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
