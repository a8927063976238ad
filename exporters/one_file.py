"""A model in one file, read without its large weights: they stay where they are in it, as stubs.

protobuf wants all of a file's bytes to read it and keeps a copy of each weight: twice the model in memory, to look at
its graph. Here the fields of the file are walked over without the values of large weights, which become stubs
(:mod:`exporters.large_weights`). https://protobuf.dev/programming-guides/encoding/ says how a field is written: a
number that holds its own and its type, then its value, which begins with its length where it has one.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from exporters import large_weights
from exporters.tensors import bytes_of

LARGE_BYTES = 2**29
"""Of a file: smaller ones are taken into memory, where all that is done to their weights is quicker."""
_GRAPH, _INITIALIZER, _RAW_DATA = (
    message.DESCRIPTOR.fields_by_name[name].number
    for message, name in ((onnx.ModelProto, "graph"), (onnx.GraphProto, "initializer"), (TensorProto, "raw_data"))
)
_NUMBER, _EIGHT, _WITH_LENGTH, _FOUR = 0, 1, 2, 5


@dataclass(frozen=True)
class _Field:
    """One field of a message: all of it begins at ``start``, its value at ``value``, and both end at ``end``."""

    number: int
    kind: int
    start: int
    value: int
    end: int


class _NotWalked(ValueError):
    """The bytes are not what protobuf writes, or written in a way that ONNX's libraries do not."""


def load(path: Path) -> onnx.ModelProto:
    """The model in ``path``; weights beside it are not read, those in a large file are stubs.

    Raises google.protobuf's DecodeError where it is no model, and OSError.
    """
    if path.stat().st_size >= max(LARGE_BYTES, 1):  # an empty file cannot be mapped
        try:
            return _walked(path)
        except _NotWalked:
            pass  # protobuf says what is wrong with it, or takes it
    return onnx.load(path, format="protobuf", load_external_data=False)


def _walked(path: Path) -> onnx.ModelProto:
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        fields = list(_fields(data, 0, len(data)))
        graphs = [each for each in fields if each.number == _GRAPH]
        if len(graphs) != 1 or graphs[0].kind != _WITH_LENGTH:
            raise _NotWalked("a model has one graph")
        model = onnx.ModelProto()
        model.MergeFromString(b"".join(data[each.start : each.end] for each in fields if each is not graphs[0]))
        model.graph.SetInParent()
        for each in _fields(data, graphs[0].value, graphs[0].end):
            values = _large_values(data, each) if each.number == _INITIALIZER else None
            if values is None:
                model.graph.MergeFromString(data[each.start : each.end])
                continue
            tensor = model.graph.initializer.add()
            tensor.MergeFromString(data[each.value : values.start] + data[values.end : each.end])
            if _is_whole(tensor, values):
                large_weights.leave(tensor, path, values.value, values.end - values.value)
            else:
                tensor.raw_data = data[values.value : values.end]
    return model


def _is_whole(tensor: TensorProto, values: _Field) -> bool:
    """Whether its values are those that its dims and type want: what is damaged is read as it is, and named."""
    try:
        return tensor.data_location == TensorProto.DEFAULT and bytes_of(tensor) == values.end - values.value
    except ValueError:
        return False


def _large_values(data: mmap.mmap, tensor: _Field) -> _Field | None:
    """The values of a weight, where they are large."""
    values = [each for each in _fields(data, tensor.value, tensor.end) if each.number == _RAW_DATA]
    return values[0] if len(values) == 1 and values[0].end - values[0].value >= large_weights.MIN_BYTES else None


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message between two places. Raises _NotWalked."""
    while start < end:
        key, place = _number(data, start, end)
        kind = key & 7
        if kind == _NUMBER:
            value, (_, place) = place, _number(data, place, end)
        elif kind == _WITH_LENGTH:
            length, value = _number(data, place, end)
            place = value + length
        elif kind in (_EIGHT, _FOUR):
            value, place = place, place + (8 if kind == _EIGHT else 4)
        else:
            raise _NotWalked("a field of a type that ONNX does not have")
        if place > end:
            raise _NotWalked("a field ends behind its message")
        yield _Field(key >> 3, kind, start, value, place)
        start = place


def _number(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """A number in seven bits a byte, the lowest first, and the place behind it."""
    found = 0
    for shift, place in enumerate(range(start, min(end, start + 10))):
        byte = data[place]
        found |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return found, place + 1
    raise _NotWalked("a number without an end")
