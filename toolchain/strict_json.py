"""JSON that every reader takes: without infinities on the way out, as its schema describes it on the way in."""

import functools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

_BOUNDS = frozenset({"type", "minimum", "maximum", "description"})
_MOST_SHOWN = 40


def finite(value: Any) -> Any:
    """``value`` with null for every number that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def parsed(text: str | bytes, *, infinities: bool = False) -> Any:
    """What ``text`` holds; raise ValueError for what is no JSON (NaN is none), or nested too deeply.

    With ``infinities`` those are read that Python writes and JSON does not know.
    """
    try:
        return json.loads(text, parse_constant=_infinity if infinities else _refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check(value: Any, schema: Mapping[str, Any], *, infinities: bool = False) -> None:
    """Raise ValueError, naming the first such place, where ``value`` is not what ``schema`` (JSON Schema) describes.

    Stricter than that about numbers: but for ``infinities`` none may be beyond what floats hold, and 1.0 is no integer,
    for we write none so.
    """
    error = next(_validator(infinities)(schema).iter_errors(value), None)
    if error is not None:
        raise ValueError(_sentence(error))


@functools.cache
def _validator(infinities: bool) -> Any:
    """The library's with our numbers, loaded on first use: a benchmark's rows run where it is not installed too."""
    from jsonschema import Draft202012Validator, validators

    numbers = {
        "number": lambda _, value: _is_number(value) or (infinities and value in (math.inf, -math.inf)),
        "integer": lambda _, value: _is_number(value) and isinstance(value, int),
    }
    each = Draft202012Validator.VALIDATORS["items"]

    def items(validator: Any, described: Any, values: Any, schema: Any) -> Iterator[Any]:
        if not _all_in_bounds(values, described):
            yield from each(validator, described, values, schema)

    checker = Draft202012Validator.TYPE_CHECKER.redefine_many(numbers)
    return validators.extend(Draft202012Validator, {"items": items}, type_checker=checker)  # type: ignore[no-untyped-call]


def _is_number(value: object) -> bool:
    """Whether a float can hold it: not so 1e999, and integers of 400 digits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _all_in_bounds(values: Any, described: Any) -> bool:
    """Whether these are numbers, all within the bounds of a schema that asks for nothing else.

    Of 240,000 latencies the library, which looks at them one by one, takes 5 s to say so, and this 20 ms. It may say
    no where the library finds no fault, and not the other way round.
    """
    if not isinstance(values, list) or described.get("type") != "number" or not described.keys() <= _BOUNDS:
        return False
    least = max(described.get("minimum", -math.inf), -sys.float_info.max)
    most = min(described.get("maximum", math.inf), sys.float_info.max)
    return set(map(type, values)) <= {int, float} and (
        # NaN need not be at either end
        not values or (least <= min(values) and max(values) <= most and all(map(math.isfinite, values)))
    )


def _sentence(error: Any) -> str:
    """The first wrong place of a ValidationError, and what is wrong with it."""
    path, value = tuple(error.absolute_path), error.instance
    if error.validator == "required":
        return f"{_place((*path, next(name for name in error.validator_value if name not in value)))} is missing"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return f"{_place((*path, next(name for name in value if name not in known)))} is not known"
    return f"{_place(path)} is {_shown(value)}"


def _place(path: Sequence[str | int]) -> str:
    """As ``rows[3].candidate.size_bytes``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".") or "it"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def _infinity(name: str) -> float:
    return _refuse(name) if name == "NaN" else float(name)
