"""The metadata of an ``.onnx`` file, read without its graph.

Parsing the whole model for a few strings would double the time to load it and the peak memory. Protobuf's wire format
says how long each field is, so the graph is skipped over.
https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Collection, Iterator
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import BinaryIO

_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2  # field numbers in onnx.proto: of ModelProto, and of each entry
_VARINT, _FIXED_64, _LENGTH_DELIMITED, _FIXED_32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_MESSAGE_BYTES = 2**31


def metadata_of(path: Path) -> dict[str, str]:
    """The ``metadata_props`` of the model at ``path``; those found so far where the file is cut off or no model."""
    found = {}
    with path.open("rb") as file:
        for _, entry in _fields(file, {_METADATA_PROPS}):
            parts = {number: text.decode(errors="replace") for number, text in _fields(BytesIO(entry), {_KEY, _VALUE})}
            found[parts.get(_KEY, "")] = parts.get(_VALUE, "")
    return found


def _fields(content: BinaryIO, wanted: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """(number, payload) of each field whose number is wanted; ends at what is not protobuf."""
    while (tag := _varint(content)) is not None:
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _varint(content)
        elif kind in (_FIXED_64, _FIXED_32):
            content.seek(8 if kind == _FIXED_64 else 4, SEEK_CUR)
        elif kind != _LENGTH_DELIMITED or (length := _varint(content)) is None or length >= _MAX_MESSAGE_BYTES:
            return
        elif number in wanted:
            yield number, content.read(length)
        else:
            content.seek(length, SEEK_CUR)


def _varint(content: BinaryIO) -> int | None:
    """Seven bits a byte, the lowest first; None at the end of the content, or where it is no such number."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = content.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << (7 * index)
        if byte[0] < 0x80:
            return value
    return None
