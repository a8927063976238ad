import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exporters.calibration.histogram import BINS, MAX_PER_SAMPLE, Histogram

Floats = npt.NDArray[np.float32]
MAGNITUDES = st.floats(2.0**-60, 2.0**40, width=32)
SAMPLES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    elements=st.just(0.0) | MAGNITUDES | MAGNITUDES.map(lambda value: -value),
)


def seen(*batches: Floats) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


def same(a: Histogram, b: Histogram) -> bool:
    return (a.exponent, a.lowest, a.highest) == (b.exponent, b.lowest, b.highest) and bool((a.counts == b.counts).all())


@given(SAMPLES, st.integers(1, 9))
def test_the_batch_size_changes_nothing(samples: Floats, size: int) -> None:
    parts = [samples[start : start + size] for start in range(0, len(samples), size)]
    assert same(seen(*parts), seen(samples))


@given(SAMPLES, st.integers(0, 9))
def test_two_parts_merged_are_the_whole(samples: Floats, cut: int) -> None:
    first, second = seen(samples[:cut]), seen(samples[cut:])
    first.merge(second)
    assert same(first, seen(samples))


@given(SAMPLES)
def test_every_value_lies_in_its_bin(samples: Floats) -> None:
    histogram = seen(samples)
    assert histogram.counts.sum() == samples.size
    assert histogram.limit > max(-histogram.lowest, histogram.highest)
    expected, _ = np.histogram(samples.astype(np.float64), bins=histogram.edges)
    assert (histogram.counts == expected).all()


@given(SAMPLES)
def test_the_range_is_less_than_twice_as_wide_as_it_must_be(samples: Floats) -> None:
    largest = float(np.abs(samples).max())
    if largest > 2.0**-100:
        assert seen(samples).limit <= 2 * largest


@settings(max_examples=5)
@given(st.integers(1, 4), st.integers(2, 5))
def test_large_samples_are_thinned_out_the_same_in_any_batch(samples: int, times: int) -> None:
    values = np.random.default_rng(0).normal(size=(samples, times * MAX_PER_SAMPLE)).astype(np.float32)
    whole = seen(values)
    assert same(whole, seen(*values[:, None]))
    assert samples * MAX_PER_SAMPLE * 0.5 < whole.counts.sum() <= samples * MAX_PER_SAMPLE
    assert (whole.lowest, whole.highest) == (values.min(), values.max())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.finfo(np.float32).min])
def test_what_is_not_finite_is_left_out_and_remembered(bad: float) -> None:
    """Masks hold minus infinity: the others' range goes by the others, and whoever wants to round is told."""
    histogram = seen(np.array([[1.0, bad, -0.5]], np.float32))
    assert (histogram.lowest, histogram.highest, histogram.counts.sum()) == (-0.5, 1.0, 2)
    assert histogram.fault == "reaches infinity"
    other = seen(np.array([[1.0, 2.0]], np.float32))
    other.merge(histogram)
    assert other.fault == "reaches infinity"


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (np.zeros((0, 4)), "is empty or never computed"),
        (np.zeros((3, 4)), "never changes"),
        (np.full((3, 4), 7.5), "never changes"),
        (np.full((1, 2), np.inf), "reaches infinity"),
        (np.array([[0.0, 1e-6]]), ""),
    ],
    ids=["empty", "zeros", "one value", "infinite", "small"],
)
def test_no_range_is_made_up(values: np.ndarray, fault: str) -> None:
    assert seen(values.astype(np.float32)).fault == fault


def test_nothing_seen_is_an_empty_histogram() -> None:
    histogram = seen(np.zeros((0, 4), np.float32))
    assert not histogram.counts.any()
    assert len(histogram.edges) == BINS + 1
