"""The rule by which a device's answers are judged, as the package's own runner has it: properties of it."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.contract.shipping.conftest import runner_of

Array = npt.NDArray[Any]
FLOATS = hnp.arrays(
    np.float32, (2, 3), elements=st.floats(-1000, 1000, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])
)


@pytest.fixture(scope="session")
def runner(_packed_once: Path) -> ModuleType:
    return runner_of(_packed_once, "self_test")


def allowed(absolute: float, relative: float = 0.0) -> dict[str, float]:
    return {"absolute": absolute, "relative": relative}


@given(want=FLOATS, absolute=st.floats(0, 10))
def test_an_answer_equals_itself(runner: ModuleType, want: Array, absolute: float) -> None:
    assert runner.compared(want.copy(), want, allowed(absolute), 3) == (0.0, "")


@given(want=FLOATS, place=st.integers(0, 5), share=st.floats(0, 0.9) | st.floats(1.1, 5), absolute=st.floats(1e-2, 10))
def test_a_value_passes_within_the_tolerance_and_not_beyond(
    runner: ModuleType, want: Array, place: int, share: float, absolute: float
) -> None:
    got = want.copy()
    got.flat[place] += np.float32(share * absolute)
    finite = bool(np.isfinite(want.flat[place]))
    _, why = runner.compared(got, want, allowed(absolute), 0)
    assert bool(why) == (finite and share > 1)


@given(want=FLOATS, place=st.integers(0, 5), value=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_no_number_stands_for_another(runner: ModuleType, want: Array, place: int, value: float) -> None:
    got = want.copy()
    got.flat[place] = value
    same = np.array_equal(got, want, equal_nan=True)
    assert bool(runner.compared(got, want, allowed(1e9), 0)[1]) != same


@given(want=hnp.arrays(np.int64, 4, elements=st.integers(-5, 5)), place=st.integers(0, 3))
def test_whole_numbers_are_equal_or_wrong(runner: ModuleType, want: Array, place: int) -> None:
    got = want.copy()
    got[place] += 1
    assert runner.compared(got, want, allowed(100.0), 0)[1] == "differs in 1 of 4 values"
    assert runner.compared(want, want, allowed(0.0), 0)[1] == ""


@given(gap=st.floats(0.0, 1.0), absolute=st.floats(0.01, 0.2))
def test_another_answer_is_wrong_unless_it_was_a_near_thing(runner: ModuleType, gap: float, absolute: float) -> None:
    """Scores may cross where both may move by the tolerance; a larger gap cannot close within it."""
    want = np.array([[gap, 0.0, -1.0]], np.float32)
    got = np.array([[gap - absolute * 0.9, absolute * 0.9, -1.0]], np.float32)
    _, why = runner.compared(got, want, allowed(absolute), 3)
    assert why == ""  # within the tolerance a clear answer cannot change
    _, why = runner.compared(got[:, ::-1].copy(), want, allowed(10.0), 3)
    assert why == ""  # with so wide a tolerance nothing is clear


def test_other_shapes_and_types_are_named(runner: ModuleType) -> None:
    want = np.zeros((2, 3), np.float32)
    assert "is float32[3]" in runner.compared(want[0], want, allowed(1.0), 0)[1]
    assert "is float64[2, 3]" in runner.compared(want.astype(np.float64), want, allowed(1.0), 0)[1]
