"""What is read is checked as JSON Schema says, the first wrong place is named, and large lists of numbers are quick."""

import math
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from toolchain import strict_json

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


NUMBERS = st.floats(-3, 3) | st.integers(-3, 3)
ODD = st.sampled_from([True, None, "1", [1.0], math.inf, -math.inf, math.nan, 10**400])
BOUNDS = st.fixed_dictionaries({"type": st.just("number")}, optional={"minimum": NUMBERS, "maximum": NUMBERS})


@given(values=st.lists(NUMBERS | ODD, max_size=4), described=BOUNDS)
def test_a_list_of_numbers_is_judged_as_each_of_them(values: list[Any], described: dict[str, Any]) -> None:
    faults = []
    for index, value in enumerate(values):
        try:
            strict_json.check(value, described)
        except ValueError as error:
            faults.append(f"[{index}]{str(error).removeprefix('it')}")
    if faults:
        with pytest.raises(ValueError) as caught:
            strict_json.check(values, {"items": described})
        assert str(caught.value) == faults[0]
    else:
        strict_json.check(values, {"items": described})


def test_the_samples_of_a_long_bench_are_checked_within_a_blink() -> None:
    """Sooner than a tenth of them one by one, which is what the library does where a schema asks for more."""
    described = {"type": "number", "minimum": 0}
    took = []
    for count, asked in ((20_000, described), (2_000, {**described, "exclusiveMaximum": 9})):
        began = time.perf_counter()
        strict_json.check([1.0 + number / 1e6 for number in range(count)], {"items": asked})
        took.append(time.perf_counter() - began)
    assert took[0] < took[1]


SCHEMA = {
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "sizes": {"items": {"type": "number", "maximum": 9}},
        "options": {"additionalProperties": False, "properties": {"a": {"enum": [1, 2]}}},
    },
}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "name is missing"),
        ({"name": None}, "name is null"),
        ({"name": "x", "sizes": [1, 2.5, 9.5]}, "sizes[2] is 9.5"),
        ({"name": "x", "sizes": [1, True]}, "sizes[1] is true"),
        ({"name": "x", "sizes": [1, math.inf]}, "sizes[1] is Infinity"),
        ({"name": "x", "options": {"a": 3}}, "options.a is 3"),
        ({"name": "x", "options": {"b": 1}}, "options.b is not known"),
        ({"name": ["x" * 99]}, f'name is ["{"x" * 38}…'),
    ],
)
def test_the_first_wrong_place_is_named(value: Any, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        strict_json.check(value, SCHEMA)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("value", [1.0, True, 10**400, -(10**400)])
def test_what_is_no_integer_here(value: Any) -> None:
    with pytest.raises(ValueError):
        strict_json.check(value, {"type": "integer"})


def test_the_library_is_loaded_when_something_is_checked() -> None:
    """What runs a benchmark's row may be another interpreter, that has numpy and onnxruntime and no more."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['jsonschema', 'torch', 'onnx', 'click', 'rich'])); "
        "import toolchain.bench.row"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_json_cannot_hold_becomes_null() -> None:
    assert strict_json.finite({"a": [math.inf, 1.0], "b": (math.nan, "x")}) == {"a": [None, 1.0], "b": [None, "x"]}


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[" * 100_000, "{", ""])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        strict_json.parsed(text)


def test_infinities_are_read_where_they_are_asked_for() -> None:
    assert strict_json.parsed("[Infinity, -Infinity, 1]", infinities=True) == [math.inf, -math.inf, 1]
    with pytest.raises(ValueError, match="holds NaN"):
        strict_json.parsed("[NaN]", infinities=True)
    strict_json.check([math.inf, -math.inf, 1], {"items": {"type": "number"}}, infinities=True)
