"""What a client sends is what the model gets, and what is no request is refused in one sentence."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.unit.serving.asking import NAMES, ONES, body_of, model, taking
from toolchain.serving import protocol
from toolchain.serving.protocol import Request
from toolchain.serving.refusal import Refusal

Array = npt.NDArray[Any]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)
ARRAYS = st.sampled_from(sorted(NAMES)).flatmap(
    lambda name: hnp.arrays(
        name, SHAPES, elements={"allow_nan": False, "allow_infinity": False} if "f" in name else None
    )
)
ANY_FLOATS = st.sampled_from(["float16", "float32", "float64"]).flatmap(lambda name: hnp.arrays(name, SHAPES))


def asked(array: Array, data: Any) -> bytes:
    entry = {"name": "x", "shape": list(array.shape), "datatype": NAMES[array.dtype.name], "data": data}
    return json.dumps({"inputs": [entry]}).encode()


def same(got: Array, want: Array) -> None:
    """Bit by bit: a zero has its sign, a NaN its place."""
    assert (got.dtype, got.shape, got.tobytes()) == (want.dtype, want.shape, want.tobytes())


@given(array=ARRAYS)
def test_values_in_json_arrive_as_they_are_flat_or_nested(array: Array) -> None:
    model = taking(array)
    same(protocol.read(asked(array, array.ravel().tolist()), None, model).feeds["x"], array)
    if array.ndim:
        same(protocol.read(asked(array, array.tolist()), None, model).feeds["x"], array)


@given(array=ARRAYS | ANY_FLOATS)
def test_values_in_bytes_arrive_as_they_are(array: Array) -> None:
    entry = {"name": "x", "shape": list(array.shape), "datatype": NAMES[array.dtype.name]}
    header = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": array.nbytes}}]}).encode()
    got = protocol.read(header + array.tobytes(), len(header), taking(array)).feeds["x"]
    same(got, array)
    assert got.flags.aligned


@given(array=ARRAYS, identity=st.none() | st.text())
def test_an_answer_in_json_says_what_the_model_gave(array: Array, identity: str | None) -> None:
    request = Request(feeds={}, outputs={"y": False}, id=identity)
    body = protocol.written(request, {"y": array}, taking(array))
    assert body.header_length is None
    told = json.loads(body.content)
    assert (told["model_name"], told["model_version"], told.get("id")) == ("net", "1.0.0", identity)
    (output,) = told["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("y", NAMES[array.dtype.name], list(array.shape))
    same(np.array(output["data"], array.dtype).reshape(array.shape), array)


@given(array=ARRAYS | ANY_FLOATS)
def test_an_answer_in_bytes_says_what_the_model_gave(array: Array) -> None:
    body = protocol.written(Request(feeds={}, outputs={"y": True}), {"y": array}, taking(array))
    assert body.header_length is not None
    (output,) = json.loads(body.content[: body.header_length])["outputs"]
    assert output["parameters"] == {"binary_data_size": array.nbytes}
    same(np.frombuffer(body.content[body.header_length :], array.dtype).reshape(array.shape), array)


def test_inputs_come_in_any_order_some_in_json_and_some_in_bytes() -> None:
    feeds = {name: np.array([number], np.int16) for number, name in enumerate("cab")}
    body, length = body_of(feeds, binary="cb", outputs=[{"name": "z", "parameters": {"binary_data": True}}])
    request = protocol.read(body, length, model("abc", "yz", "int16", ("N",)))
    assert {name: array.tolist() for name, array in request.feeds.items()} == {"a": [1], "b": [2], "c": [0]}
    assert list(request.feeds) == ["a", "b", "c"]
    assert request.outputs == {"z": True}


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, {"y": False}),
        ({"parameters": {"binary_data_output": True}}, {"y": True}),
        ({"outputs": [{"name": "y"}]}, {"y": False}),
        ({"outputs": [{"name": "y"}], "parameters": {"binary_data_output": True}}, {"y": True}),
        (
            {
                "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
                "parameters": {"binary_data_output": True},
            },
            {"y": False},
        ),
    ],
)
def test_which_outputs_are_wanted_as_bytes(more: dict[str, Any], wanted: dict[str, bool]) -> None:
    body, _ = body_of({"x": ONES}, **more)
    assert protocol.read(body, None, model()).outputs == wanted


def test_an_axis_of_any_length_is_told_as_minus_one() -> None:
    told = protocol.metadata(model())
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert told["versions"] == ["1.0.0"]


X = '{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}'


def with_x(**changed: Any) -> str:
    entry = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]} | changed
    return json.dumps({"inputs": [{key: value for key, value in entry.items() if value is not ...}]})


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "The request is no JSON (line 1, column 1)."),
        ("{", "The request is no JSON (line 1, column 2)."),
        ("[]", "The request is no JSON object."),
        ("\ufeff{}", "The request is no JSON (line 1, column 1)."),
        ('{"inputs":' + "[" * 100_000, "The request is no JSON: it is nested too deeply."),
        (with_x().replace("[1, 2]}", "[NaN, 2]}"), "The request is no JSON: it holds NaN."),
        (f'{{"id":{"9" * 5_000},"inputs":[{X}]}}', "The request is no JSON: it holds a number of too many digits."),
        (f'{{"id":7,"inputs":[{X}]}}', "The id is no text."),
        ("{}", "The request has no list 'inputs' of objects."),
        ('{"inputs":[]}', "The request has no list 'inputs' of objects."),
        ('{"inputs":[1]}', "The request has no list 'inputs' of objects."),
        ('{"inputs":[{}]}', "One of the 'inputs' has no name."),
        (with_x(name="z"), "Input 'z' is none of the model's: x."),
        (f'{{"inputs":[{X},{X}]}}', "Input 'x' is there twice."),
        (with_x(datatype="FP64"), "Input 'x' is FP32, not FP64."),
        (with_x(datatype="BYTES"), "Input 'x' is FP32, not BYTES."),
        (with_x(datatype="BF16"), "Input 'x' is FP32, not BF16."),
        (with_x(datatype=...), "Input 'x' is FP32, not None."),
        (with_x(datatype=["FP32"]), "Input 'x' is FP32, not ['FP32']."),
        (with_x(shape=[1, 3]), "Input 'x' has the shape [1, 3], the model wants ['N', 2]."),
        (with_x(shape=[2]), "Input 'x' has the shape [2], the model wants ['N', 2]."),
        (with_x(shape=[0, 2], data=[]), "The shape of input 'x' is no list of whole numbers from 1 to 2147483647."),
        (with_x(shape=[-1, 2]), "The shape of input 'x' is no list of whole numbers from 1 to 2147483647."),
        (with_x(shape=[1.0, 2]), "The shape of input 'x' is no list of whole numbers from 1 to 2147483647."),
        (with_x(shape=[True, 2]), "The shape of input 'x' is no list of whole numbers from 1 to 2147483647."),
        (with_x(shape=[1] * 65), "The shape of input 'x' is no list of whole numbers from 1 to 2147483647."),
        (with_x(shape=[2**31, 2]), "The shape of input 'x' is no list of whole numbers from 1 to 2147483647."),
        (with_x(shape=[2**31 - 1, 2]), "Input 'x' of shape [2147483647, 2] takes 4294967294 values, not 2."),
        (with_x(data=[1]), "Input 'x' of shape [1, 2] takes 2 values, not 1."),
        (with_x(data=[[1], [2]]), "The data of input 'x' are not nested as its shape [1, 2] says."),
        (with_x(data=[[1, [2]]]), "Input 'x' is FP32, and its data hold lists."),
        (with_x(data=[[1, 2], 3]), "The data of input 'x' are not nested as its shape [1, 2] says."),
        (with_x(data="ab"), "The data of input 'x' are no list."),
        (with_x(data=["1", "2"]), "Input 'x' is FP32, and its data hold texts."),
        (with_x(data=[None, 1]), "Input 'x' is FP32, and its data hold null."),
        (with_x(data=[{}, 1]), "Input 'x' is FP32, and its data hold objects."),
        (with_x(data=[True, 1]), "Input 'x' is FP32, and its data hold true or false."),
        (with_x(data=[1e300, 1]), "Input 'x' is FP32, and its data hold a number beyond that type."),
        (with_x(data=[10**400, 1]), "Input 'x' is FP32, and its data hold a number beyond that type."),
        (with_x().replace("[1, 2]}", "[1e999, 2]}"), "Input 'x' is FP32, and its data hold a number beyond that type."),
        (with_x(data=...), "Input 'x' has neither data nor a binary_data_size, or both."),
        (with_x(parameters={"binary_data_size": 8}), "Input 'x' has neither data nor a binary_data_size, or both."),
        (with_x(data=..., parameters={"binary_data_size": 8}), "The body holds 0 bytes for input 'x', not 8."),
        (with_x(data=..., parameters={"binary_data_size": -1}), "The body holds 0 bytes for input 'x', not -1."),
        (
            with_x(data=..., parameters={"binary_data_size": True}),
            "The parameter 'binary_data_size' of input 'x' is not of its type.",
        ),
        (with_x(parameters=[]), "The parameters of input 'x' are no object."),
        (
            with_x(parameters={"shared_memory_region": "a"}),
            "The parameter 'shared_memory_region' of input 'x' is not known here.",
        ),
        (
            f'{{"inputs":[{X}],"parameters":{{"priority":1}}}}',
            "The parameter 'priority' of the request is not known here.",
        ),
        (f'{{"inputs":[{X}],"outputs":[]}}', "The request has no list 'outputs' of objects."),
        (f'{{"inputs":[{X}],"outputs":[{{"name":"x"}}]}}', "Output 'x' is none of the model's: y."),
        (f'{{"inputs":[{X}],"outputs":[{{"name":"y"}},{{"name":"y"}}]}}', "Output 'y' is asked for twice."),
        (
            f'{{"inputs":[{X}],"outputs":[{{"name":"y","parameters":{{"classification":3}}}}]}}',
            "The parameter 'classification' of output 'y' is not known here.",
        ),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_in_one_sentence(body: str, why: str) -> None:
    with pytest.raises(Refusal) as refused:
        protocol.read(body.encode(), None, model())
    assert (refused.value.status, refused.value.what) == (400, why)


@pytest.mark.parametrize(
    ("dtype", "data", "why"),
    [
        ("int8", [128], "a number beyond that type"),
        ("uint8", [-1], "a number beyond that type"),
        ("uint64", [2**64], "a number beyond that type"),
        ("float16", [70_000], "a number beyond that type"),
        ("int32", [1.0], "numbers with a fraction"),
        ("bool", [1], "numbers"),
    ],
)
def test_a_value_that_the_type_does_not_hold_is_not_bent(dtype: str, data: list[Any], why: str) -> None:
    array = np.zeros(1, dtype)
    with pytest.raises(Refusal, match=f"^Input 'x' is {NAMES[dtype]}, and its data hold {why}.$"):
        protocol.read(asked(array, data), None, taking(array))


def test_what_is_told_back_has_an_end() -> None:
    with pytest.raises(Refusal) as refused:
        protocol.read(with_x(datatype="FP32", shape=[7] * 64, name="x").encode(), None, model(shape=("N",) * 63 + (2,)))
    assert len(refused.value.what) == 400


@pytest.mark.parametrize(
    ("length", "content", "why"),
    [
        (10**9, b"", "inference-header-content-length says 1000000000"),
        (0, b"", "The request is no JSON (line 1, column 1)."),
        (None, b"1234", "The request is no JSON (line 1, column"),
        (..., b"1234567", "The body holds 7 bytes for input 'x', not 8."),
        (..., b"123456789", "The body holds 1 bytes that belong to no input."),
    ],
)
def test_bytes_that_do_not_add_up_are_refused(length: Any, content: bytes, why: str) -> None:
    header = with_x(data=..., parameters={"binary_data_size": 8}).encode()
    with pytest.raises(Refusal) as refused:
        protocol.read(header + content, len(header) if length is ... else length, model())
    assert refused.value.what.startswith(why)


def test_a_size_that_the_shape_does_not_have_is_refused() -> None:
    header = with_x(data=..., parameters={"binary_data_size": 4}).encode()
    with pytest.raises(Refusal, match="takes 8 bytes of FP32, not 4"):
        protocol.read(header + b"1234", len(header), model())


def test_a_bool_of_another_byte_is_refused() -> None:
    array = np.zeros(2, bool)
    entry = {"name": "x", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}}
    header = json.dumps({"inputs": [entry]}).encode()
    with pytest.raises(Refusal, match="neither 0 nor 1"):
        protocol.read(header + b"\x01\x02", len(header), taking(array))


def test_what_is_not_utf_8_is_refused() -> None:
    with pytest.raises(Refusal, match="not UTF-8"):
        protocol.read(b'{"id":"\xff"}', None, model())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_json_cannot_hold_is_said(value: float) -> None:
    array = np.array([value], np.float32)
    with pytest.raises(Refusal, match="'y' holds NaN or infinity, which JSON cannot: ask"):
        protocol.written(Request(feeds={}, outputs={"y": False}), {"y": array}, taking(array))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["x", "FP32"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "binary_data_size"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(
    body=st.binary(max_size=80)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps({"inputs": [value]}).encode())
    | JSON.map(lambda value: with_x(data=value).encode())
    | JSON.map(lambda value: with_x(parameters=value).encode()),
    length=st.none() | st.integers(0, 90),
)
def test_whatever_comes_is_read_or_refused(body: bytes, length: int | None) -> None:
    try:
        request = protocol.read(body, length, model())
    except Refusal as refusal:
        assert refusal.status == 400
        assert len(refusal.what) < 400
        assert "\n" not in refusal.what
    else:
        assert request.feeds["x"].shape[1:] == (2,)
