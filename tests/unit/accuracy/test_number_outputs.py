from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.accuracy.number_outputs import Numbers

lengths = st.lists(st.integers(0, 5), min_size=1, max_size=12).filter(lambda counts: sum(counts) > 1)


def divided(array: np.ndarray, counts: Sequence[int], batch: int) -> list[np.ndarray]:
    """Calls of so many samples each, the samples on axis ``batch``."""
    return [np.moveaxis(part, 0, batch) for part in np.split(array, np.cumsum(counts)[:-1])]


@given(lengths, st.sampled_from([0, 1]), st.booleans(), st.integers(0, 99))
def test_how_the_samples_are_divided_into_calls_changes_no_figure(
    counts: list[int], batch: int, whole_steps: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    wanted = random.normal(size=(sum(counts), 3)).astype(np.float32)
    got = wanted + random.normal(size=wanted.shape, scale=0.1).astype(np.float32)
    got[random.random(wanted.shape) < 0.05] = np.nan

    def numbers(counts: Sequence[int]) -> Numbers:
        calls = (divided(array, counts, batch) for array in (wanted, got))
        return Numbers.of(*calls, batch=batch, whole_steps=whole_steps)

    one, other = numbers(counts), numbers([sum(counts)])
    assert (len(one), one.broken, one.broken_samples) == (len(other), other.broken, other.broken_samples)
    for some in (slice(None), slice(0, None, 2), slice(1, None, 2)):
        for keep, whole in zip(one.rows(some).parts, other.rows(some).parts, strict=True):
            for found, right in zip(one.rows(some).samples(keep), other.rows(some).samples(whole), strict=True):
                np.testing.assert_array_equal(found, right)
    assert one.sqnr_db == pytest.approx(other.sqnr_db)
    assert one.largest == other.largest


def test_calls_of_other_shapes_stay_apart() -> None:
    lengths = [4, 4, 7, 4]
    calls = [np.full((1, length), length, np.float32) for length in lengths]
    found = Numbers.of(calls, calls, batch=0)
    assert [array.shape for array in found.wanted] == [(2, 4), (1, 7), (1, 4)]
    assert found.channels(rounding=0.0) != ()


def test_an_output_without_a_batch_axis_is_one_sample_a_call() -> None:
    calls = [np.arange(3, dtype=np.float32) + number for number in range(5)]
    assert len(Numbers.of(calls, calls, batch=None)) == 5


class _Large(Sequence[np.ndarray]):
    """Calls that are made when they are asked for; counts how many are."""

    def __init__(self, length: int) -> None:
        self.length, self.asked = length, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]
        if not 0 <= number < self.length:
            raise IndexError(number)
        self.asked += 1
        return np.zeros((1, 2**20), np.float32)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(self.length))


def test_large_outputs_are_not_read_before_they_are_asked_for() -> None:
    calls = _Large(100)
    found = Numbers.of(calls, calls, batch=0)
    assert calls.asked < 5
    assert len(found.wanted) == 100
