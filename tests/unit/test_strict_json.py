"""The compact check agrees with the library that knows all of JSON Schema."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from toolchain import strict_json
from toolchain.bench import report

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from(["", "a", "ab"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
TYPES = st.sampled_from(["object", "array", "string", "boolean", "integer", "number", "null"])


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(st.sampled_from(["", "a", None]), min_size=1, max_size=2, unique=True),
            "pattern": st.just("^a$"),
            "minimum": st.integers(-2, 2),
            "maximum": st.integers(-2, 2),
            "minItems": st.integers(0, 2),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "additionalProperties": st.just(False) | inner,
            "items": inner,
        },
    )


SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.recursive(st.just({}), schemas, max_leaves=6)


@given(value=VALUES, schema=SCHEMAS)
def test_it_judges_as_the_library_does(value: Any, schema: dict[str, Any]) -> None:
    value = _without_whole_floats(value)
    if Draft202012Validator(schema).is_valid(value):
        strict_json.check(value, schema)
    else:
        with pytest.raises(ValueError):
            strict_json.check(value, schema)


def _without_whole_floats(value: Any) -> Any:
    """1.0 is an integer to JSON Schema; to us it is none, for we never write one."""
    if isinstance(value, float) and value.is_integer():
        return 0.5
    if isinstance(value, dict):
        return {name: _without_whole_floats(each) for name, each in value.items()}
    return [_without_whole_floats(each) for each in value] if isinstance(value, list) else value


def test_it_knows_every_keyword_of_our_schema() -> None:
    said = {"$schema", "$id", "$defs", "title", "description"}
    structure = {"$ref", "properties", "required", "additionalProperties", "items"}

    def keywords(schema: Any) -> set[str]:
        if not isinstance(schema, dict):
            return set()
        nested = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        nested += [schema.get("items"), schema.get("additionalProperties")]
        return set(schema).union(*map(keywords, nested))

    assert keywords(json.loads(report.schema())) - said - structure <= set(strict_json._KEYWORDS)


def test_what_json_cannot_hold_becomes_null() -> None:
    assert strict_json.finite({"a": [math.inf, 1.0], "b": (math.nan, "x")}) == {"a": [None, 1.0], "b": [None, "x"]}


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[" * 100_000, "{", ""])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        strict_json.parsed(text)
