"""JSON that every reader takes: without infinities on the way out, as its schema describes it on the way in."""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_MOST_SHOWN = 40


def finite(value: Any) -> Any:
    """``value`` with null for every number that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def parsed(text: str) -> Any:
    """What ``text`` holds; raise ValueError for what is no JSON (NaN is none), or nested too deeply."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check(value: Any, schema: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the first such place, where ``value`` is not what ``schema`` describes.

    JSON Schema with the keywords that our schemas use and no others: the library that knows all of them is for
    developers, and a benchmark is read where it is not installed.
    """
    _check(value, schema, schema.get("$defs", {}), "")


def _check(value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> None:
    if "$ref" in schema:
        _check(value, definitions[schema["$ref"].rpartition("/")[2]], definitions, where)
    for keyword, wanted in schema.items():
        if keyword in _KEYWORDS and not _KEYWORDS[keyword](value, wanted):
            raise ValueError(f"{where or 'it'} is {_shown(value)}")
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for name in schema.get("required", ()):
            if name not in value:
                raise ValueError(f"{_inside(where, name)} is missing")
        for name, each in value.items():
            if name not in known and others is False:
                raise ValueError(f"{_inside(where, name)} is not known")
            _check(each, known.get(name, others), definitions, _inside(where, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _check(each, schema.get("items", {}), definitions, f"{where}[{index}]")


def _is_of_type(value: Any, names: str | list[str]) -> bool:
    listed = [names] if isinstance(names, str) else names
    if isinstance(value, bool):  # to Python it is an integer
        return "boolean" in listed
    if isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max:  # 1e999, and integers beyond floats
        return False
    return any(isinstance(value, _TYPES[name]) for name in listed)


def _of_numbers(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A keyword about numbers says nothing of other values, such as the null that may stand in their place."""
    return lambda value, bound: not isinstance(value, (int, float)) or compare(value, bound)


_KEYWORDS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _is_of_type,
    "const": lambda value, wanted: bool(value == wanted),
    "enum": lambda value, known: value in known,
    "pattern": lambda value, wanted: not isinstance(value, str) or re.search(wanted, value) is not None,
    "minimum": _of_numbers(lambda value, bound: value >= bound),
    "maximum": _of_numbers(lambda value, bound: value <= bound),
    "minItems": lambda value, least: not isinstance(value, list) or len(value) >= least,
}


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")
