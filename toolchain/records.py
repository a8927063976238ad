"""Records and their JSON: checked against the schema that lies beside a record, and made again by its type hints."""

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from importlib import resources
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from toolchain import strict_json
from toolchain.errors import BadUsage
from toolchain.stats import Interval

_Record = TypeVar("_Record")
_Reader = Callable[[Any], Any]
_MAPPINGS = (dict, Mapping)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How one kind of record lies in a file.

    ``name`` completes "The file is not ...", ``again`` says how to get a right one. The JSON Schema is the file
    ``schema`` in the package ``room``; a version is what it demands as ``schema_version``. ``infinities`` are read
    as Python's JSON has them, which earlier versions of nnx wrote, and others do not know; ``of_former`` makes what is
    described of what such a version wrote.
    """

    name: str
    again: str
    room: str
    schema: str
    infinities: bool = False
    of_former: Callable[[Any], Any] = lambda content: content

    def read(self, kind: type[_Record], text: str | bytes) -> _Record:
        """The record that ``text`` holds.

        Raises BadUsage for another schema version, and for what is not as described: that a file was damaged, or
        written by hand, is said here, and not by whatever works with it later.
        """
        try:
            content = self.of_former(strict_json.parsed(text, infinities=self.infinities))
            schema = json.loads(self.schema_text())
            self._require_version(content, schema)
            strict_json.check(content, schema, infinities=self.infinities)
            return made(kind, content)
        except ValueError as error:
            raise self.refusal(_why(error)) from error

    def refusal(self, why: str) -> BadUsage:
        """The error about a file that is not what it should be."""
        return BadUsage(f"The file is not {self.name}: {why}.", self.again)

    def schema_text(self) -> str:
        """The JSON Schema of the file."""
        return (resources.files(self.room) / self.schema).read_text(encoding="utf-8")

    def _require_version(self, content: Any, schema: Mapping[str, Any]) -> None:
        wanted = schema["properties"].get("schema_version", {}).get("const")
        version = content.get("schema_version", wanted) if isinstance(content, dict) else wanted
        if version != wanted:
            raise BadUsage(f"The file has schema version {version}, this nnx reads {wanted}.", self.again)


def _why(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON (line {error.lineno}, column {error.colno})"
    return "it is no JSON" if isinstance(error, UnicodeDecodeError) else str(error)


def made(kind: type[_Record], content: Mapping[str, Any]) -> _Record:
    """The frozen dataclass ``kind`` of JSON's ``content``, which has been checked already.

    What ``kind`` has no field for is left out, a field that is not there keeps its default. JSON has no infinity: null
    stands for it where a number must be, for the one below zero at the lower end of an interval.
    """
    readers = _readers_of(kind)  # type: ignore[arg-type]  # mypy takes no type[T] for hashable
    return kind(**{name: read(content[name]) for name, read in readers.items() if name in content})


@functools.cache
def _readers_of(kind: type[Any]) -> Mapping[str, _Reader]:
    hints = get_type_hints(kind)
    readers = {each.name: _reader(hints[each.name]) for each in fields(kind) if each.init}
    return {**readers, "low": lambda end: -math.inf if end is None else end} if kind is Interval else readers


def _reader(hint: Any) -> _Reader:
    """What makes a value of that type of one of JSON's."""
    kind: Any = get_origin(hint) or hint
    inner = get_args(hint)
    if kind in (Union, UnionType):
        return _optional(hint, [each for each in inner if each is not NoneType])
    if kind is tuple:
        return _tuple_reader(inner)
    if kind in _MAPPINGS:
        each = _reader(inner[1]) if inner else _as_it_is
        return lambda value: {name: each(entry) for name, entry in value.items()}
    if kind is float:
        return lambda value: math.inf if value is None else value
    if kind in (str, int, bool, Any, Literal):
        return _as_it_is
    if isinstance(kind, type) and is_dataclass(kind):
        return lambda value: made(kind, value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    raise TypeError(f"JSON has nothing for {hint}")


def _optional(hint: Any, others: list[Any]) -> _Reader:
    if set(others) <= {int, str}:
        return _as_it_is
    if len(others) > 1:
        raise TypeError(f"JSON does not tell which of {hint} a value is")
    read = _reader(others[0])
    return lambda value: None if value is None else read(value)


def _tuple_reader(inner: tuple[Any, ...]) -> _Reader:
    """A tuple of pairs may be an object."""
    if inner[-1] is not Ellipsis:
        readers = [_reader(each) for each in inner]
        return lambda value: tuple(read(each) for read, each in zip(readers, value, strict=True))
    read = _reader(inner[0])
    return lambda value: tuple(map(read, value.items() if isinstance(value, dict) else value))


def _as_it_is(value: Any) -> Any:
    return value
