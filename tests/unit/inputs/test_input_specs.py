"""What ``--input`` says, and the values that are made up after it."""

from typing import Any

import numpy as np
import pytest

from toolchain.errors import BadUsage
from toolchain.inputs import examples, input_specs
from toolchain.inputs.input_specs import Spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("x=float32[1,3,224,224]", Spec("x", "float32", ("batch", 3, 224, 224), 1)),
        ("x=float32[4,3,h,w]", Spec("x", "float32", ("batch", 3, "h", "w"), 4)),
        ("x=float32[3,batch]", Spec("x", "float32", (3, "batch"), None)),
        ("x = float32[N, 3]", Spec("x", "float32", ("batch", 3), None)),
        ("x=float32[seq,3]", Spec("x", "float32", ("seq", 3), None)),
        ("t=int64[]", Spec("t", "int64", (), None)),
        ("ids=int64[batch,seq]<30522", Spec("ids", "int64", ("batch", "seq"), None, None, 30522.0)),
        ("x=float32[N]>=0<1", Spec("x", "float32", ("batch",), None, 0.0, 1.0)),
        ("x=float32[N]>=-1.5e-3", Spec("x", "float32", ("batch",), None, -1.5e-3, None)),
        ("parts.0=uint8[N]", Spec("parts.0", "uint8", ("batch",), None)),
    ],
)
def test_a_tensor(text: str, spec: Spec) -> None:
    assert input_specs.parsed([text]) == ((spec,), {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("f=true", True), ("f=null", None), ("f=3", 3), ("f=-0.5", -0.5), ('f="a b"', "a b"), ("f=wide", "wide")],
)
def test_a_constant(text: str, value: Any) -> None:
    assert input_specs.parsed([text]) == ((), {"f": value})


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "x=", "x=float32", "x=float32[", "x=float32[1,]", "x=float32[1,-3]", "x=float32[1,3d]", "x=float99[1]",
        "x=float32[0]", "x=complex64[1]", "x=object[1]", "x=True", "x=[1,2]", "x={}", "=float32[1]",
        "x=int64[N]<0.5", "x=int64[N]>=5<5", "x=uint8[N]<300", "x=uint8[N]>=-1", "x=bool[N]<2", "x=float32[N]>=2<1",
        "x=float32[N]<", "x=float32[N]<a", "x=float32[N]<1<2", "x=yes", "x=.5", "x=float32[N]<1e400",
        "x=float64[N]>=-1e308<1e308",
    ],
)  # fmt: skip
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(BadUsage) as caught:
        input_specs.parsed([text])
    assert f"'{text}'" in caught.value.what


def test_a_name_stands_once() -> None:
    for texts in (["x=float32[1]", "x=float32[1]"], ["x=float32[1]", "x=true"]):
        with pytest.raises(BadUsage, match="one name"):
            input_specs.parsed(texts)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("x=int64[1000]<10", 0, 9),
        ("x=int64[1000]>=5<10", 5, 9),
        ("x=int64[1000]>=7", 7, 8),
        ("x=int8[1000]<-100", -101, -101),
        ("x=uint8[1000]<256", 0, 255),
        ("x=uint64[1000]<18446744073709551616", 0, 2**64),
        ("x=float32[1000]<1", 0, 1),
        ("x=float32[1000]>=-2<2", -2, 2),
        ("x=int64[1000]", 0, 1),
    ],
)
def test_values_lie_in_their_range_and_reach_its_ends(text: str, low: float, high: float) -> None:
    example = examples.of_specs([text])
    values = example.at({"batch": 1000})["x"].astype(np.float64)
    assert np.all(values >= low)
    assert np.all(values <= high)
    assert float(np.min(values)) == pytest.approx(low, abs=0.02 * (high - low))
    assert float(np.max(values)) == pytest.approx(high, abs=0.02 * (high - low))
    assert np.array_equal(values, example.at({"batch": 1000})["x"].astype(np.float64))


def test_a_constant_is_given_and_is_no_input_of_the_file() -> None:
    example = examples.of_specs(["x=float32[N]", "flag=true"])
    assert example.takes["flag"] is True
    assert list(example.axes) == ["x"]
