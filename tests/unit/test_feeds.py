"""From samples to calls: what is stacked along which axis, and what is run alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.batch_axes import BatchAxes
from exporters.errors import BadCalibrationData
from exporters.feeds import calls, count_of, like, parts, samples_first, stacked


def axes_of(fixed: int | None = None, **inputs: tuple[int | None, tuple[int | str, ...]]) -> BatchAxes:
    axes, shapes = ({name: pair[place] for name, pair in inputs.items()} for place in (0, 1))
    return BatchAxes(axes, {}, fixed, shapes)  # type: ignore[arg-type]


@given(count=st.integers(1, 40), size=st.integers(1, 12), axis=st.integers(0, 2))
def test_samples_come_in_order_along_any_axis(count: int, size: int, axis: int) -> None:
    samples = np.arange(count * 6).reshape(count, 2, 3)
    shape: list[int | str] = [2, 3]
    shape.insert(axis, "N")
    found = list(calls({"x": samples}, axes_of(x=(axis, tuple(shape))), size))
    assert all(feeds["x"].shape[axis] <= size for feeds in found)
    np.testing.assert_array_equal(np.concatenate([np.moveaxis(feeds["x"], axis, 0) for feeds in found]), samples)


@given(lengths=st.lists(st.integers(0, 3), min_size=1, max_size=30), size=st.integers(1, 8))
def test_unequal_lengths_run_apart(lengths: list[int], size: int) -> None:
    samples = [np.full(length, index) for index, length in enumerate(lengths)]
    found = list(calls({"ids": samples}, axes_of(ids=(0, ("N", "S"))), size))
    rows = [row for feeds in found for row in feeds["ids"]]
    assert [row.tolist() for row in rows] == [array.tolist() for array in samples]


@given(flags=st.lists(st.booleans(), min_size=1, max_size=30), size=st.integers(1, 8))
def test_a_changing_value_without_a_batch_axis_splits(flags: list[bool], size: int) -> None:
    samples = {"x": np.arange(len(flags))[:, None], "flag": np.array(flags)}
    axes = axes_of(x=(0, ("N", 1)), flag=(None, ()))
    seen = [(int(row), bool(feeds["flag"])) for feeds in calls(samples, axes, size) for row in feeds["x"][:, 0]]
    assert seen == list(enumerate(flags))
    assert all(feeds["flag"].shape == () for feeds in calls(samples, axes, size))


def test_a_shared_value_goes_into_every_call() -> None:
    samples = {"x": np.zeros((5, 6, 2)), "pos": np.ones((6, 2)), "t": np.array(0.7)}
    axes = axes_of(x=(0, ("N", 6, 2)), pos=(None, (6, 2)), t=(None, ()))
    assert count_of(samples, axes) == 5
    assert [feeds["x"].shape[0] for feeds in calls(samples, axes, 3)] == [3, 2]
    assert all(feeds["pos"].shape == (6, 2) and feeds["t"].shape == () for feeds in calls(samples, axes, 3))


def test_an_axis_more_makes_each_sample_a_call() -> None:
    found = list(calls({"x": np.zeros((4, 3, 2))}, axes_of(x=(0, ("N", 2))), 16))
    assert [feeds["x"].shape for feeds in found] == [(3, 2)] * 4


def test_without_a_batch_axis_each_sample_is_a_call() -> None:
    found = list(calls({"x": np.zeros((4, 16))}, axes_of(x=(None, (16,))), 16))
    assert [feeds["x"].shape for feeds in found] == [(16,)] * 4


def test_a_fixed_batch_leaves_out_an_incomplete_last_one() -> None:
    assert list(parts({"x": np.zeros((11, 2))}, axes_of(4, x=(0, (4, 2))), 16)) == [range(4), range(4, 8)]


def test_a_value_that_changes_inside_a_fixed_batch_is_refused() -> None:
    samples = {"x": np.zeros((4, 2)), "t": np.arange(4.0)}
    with pytest.raises(BadCalibrationData, match="4 samples at a time, and 't' changes"):
        list(calls(samples, axes_of(4, x=(0, (4, 2)), t=(None, ())), 16))


def test_unequal_counts_are_refused() -> None:
    with pytest.raises(BadCalibrationData, match="these numbers of samples"):
        count_of({"x": np.zeros((4, 2)), "z": np.zeros((3, 2))}, axes_of(x=(0, ("N", 2)), z=(0, ("N", 2))))


@given(lengths=st.lists(st.integers(1, 3), min_size=1, max_size=12), start=st.integers(0, 20), size=st.integers(1, 9))
def test_a_batch_is_of_samples_that_fit_together(lengths: list[int], start: int, size: int) -> None:
    """As many as asked for, the first of them ``start``, all of its length, going round."""
    samples = {"ids": [np.full(length, index) for index, length in enumerate(lengths)]}
    axes = axes_of(ids=(0, ("N", "S")))
    rows = like(samples, axes, start, size)
    assert (len(rows), rows[0]) == (size, start % len(lengths))
    assert {lengths[row] for row in rows} == {lengths[rows[0]]}
    assert stacked(samples, axes, rows)["ids"][:, 0].tolist() == rows


def test_nothing_is_stacked_without_a_batch_axis() -> None:
    samples, axes = {"x": np.zeros((5, 16))}, axes_of(x=(None, (16,)))
    assert stacked(samples, axes, like(samples, axes, 3, 1))["x"].shape == (16,)
    with pytest.raises(BadCalibrationData, match="no batch axis"):
        like(samples, axes, 0, 2)


def test_arrays_as_the_model_itself_takes_them_are_told_by_their_axes_or_by_their_number() -> None:
    axes = axes_of(x=(0, ("N", 4)), h=(1, (2, "N", 3)), src=(1, ("T", "N", 4)))
    x = np.zeros((5, 4))
    turned = samples_first({"x": x, "h": np.zeros((2, 5, 3)), "src": np.zeros((9, 5, 4))}, axes)
    assert {name: np.shape(array) for name, array in turned.items()} == {"x": (5, 4), "h": (5, 2, 3), "src": (5, 9, 4)}
    first = {"x": x, "h": np.zeros((5, 2, 3)), "src": np.zeros((5, 9, 4))}
    assert samples_first(first, axes) == first
    assert samples_first({"src": first["src"]}, axes)["src"] is first["src"]  # nothing tells: the first axis counts
