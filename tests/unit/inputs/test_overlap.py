from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.errors import BadUsage
from toolchain.inputs.overlap import digests, refuse, shared, without

rows = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def images(numbers: list[int]) -> dict[str, np.ndarray]:
    """One 2 x 3 image a number, told apart by it."""
    return {"x": np.stack([np.full((2, 3), number, np.float32) for number in numbers])}


def told_apart(numbers: list[int]) -> list[bytes]:
    return digests(images(numbers))


@given(rows, rows)
def test_shared_rows_are_those_with_the_same_content(a: list[int], b: list[int]) -> None:
    assert shared(told_apart(a), told_apart(b)).tolist() == [row for row, number in enumerate(a) if number in b]


@given(rows, rows)
def test_without_leaves_nothing_to_refuse(a: list[int], b: list[int]) -> None:
    if set(a) <= set(b):
        with pytest.raises(BadUsage, match=f"All {len(a)} calibration samples"):
            without(told_apart(a), told_apart(b))
        return
    kept = without(told_apart(a), told_apart(b))
    refuse(digests({"x": images(a)["x"][kept]}), told_apart(b))
    assert sorted([*kept.tolist(), *shared(told_apart(a), told_apart(b)).tolist()]) == list(range(len(a)))


def test_a_sample_is_all_of_its_inputs_whatever_their_order() -> None:
    ids, mask = np.array([[1, 2], [1, 2]]), np.array([[1, 1], [1, 0]])
    one, other = digests({"ids": ids, "mask": mask})
    assert one != other
    assert digests({"mask": mask, "ids": ids}) == [one, other]
    assert digests({"ids": mask, "mask": ids})[0] != one


@pytest.mark.parametrize("dtype", [np.float64, np.dtype(">f4")])
def test_a_sample_counts_by_its_values_not_by_how_they_are_stored(dtype: type) -> None:
    values = np.array([[0.1, -0.0], [1e30, 3.0]], np.float32)
    assert digests({"x": values}) == digests({"x": values.astype(dtype)})
    assert digests({"x": np.array([[0.1, 0.0]], np.float32)}) == digests({"x": values[:1]})


def test_whole_numbers_of_any_width_are_the_same() -> None:
    assert digests({"x": np.array([3, 7], np.uint8)}) == digests({"x": np.array([3, 7], np.int64)})


def test_the_same_bytes_in_another_shape_are_another_sample() -> None:
    flat = np.arange(6, dtype=np.float32)
    assert digests({"x": flat.reshape(1, 2, 3)}) != digests({"x": flat.reshape(1, 3, 2)})


def test_a_number_beyond_fp32_is_no_warning() -> None:
    assert len(digests({"x": np.array([[1e300], [np.nan]])})) == 2


def test_a_memory_mapped_file_is_compared_like_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images([4, 9])["x"])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert shared(digests({"x": mapped}), told_apart([9])).tolist() == [1]


def test_the_refusal_counts_and_names_rows() -> None:
    with pytest.raises(BadUsage) as caught:
        refuse(told_apart(list(range(10))), told_apart([1, 2, 3, 5, 7, 8, 20]))
    assert caught.value.what == (
        "6 of the 10 calibration samples are among those that judge the result "
        "(rows 1, 2, 3, 5, 7 and 1 more, counting from 0)."
    )
    with pytest.raises(BadUsage, match=r"1 of the 2 calibration samples is among .*\(row 1, counting"):
        refuse(told_apart([0, 6]), told_apart([6]))
