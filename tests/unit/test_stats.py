import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.stats import percentile, proportion, ratio_of_medians, sqnr_db

latencies = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=20)
rounds = st.lists(latencies, min_size=2, max_size=8)


@given(rounds, st.floats(0.01, 100))
def test_a_ratio_scales_with_its_numerator(blocks: list[list[float]], factor: float) -> None:
    scaled = [[sample * factor for sample in block] for block in blocks]
    ratio = ratio_of_medians(scaled, blocks)
    assert ratio.estimate == pytest.approx(factor)
    assert ratio.low == pytest.approx(factor)
    assert ratio.high == pytest.approx(factor)


@given(rounds, rounds)
def test_a_ratio_turned_round_is_its_inverse(above: list[list[float]], below: list[list[float]]) -> None:
    count = min(len(above), len(below))
    one, other = ratio_of_medians(above[:count], below[:count]), ratio_of_medians(below[:count], above[:count])
    assert one.low <= one.estimate <= one.high
    assert one.estimate == pytest.approx(1 / other.estimate)
    assert one.low == pytest.approx(1 / other.high)


def test_what_disturbs_a_round_disturbs_both_and_cancels() -> None:
    weather = [1.0, 5.0, 2.0, 9.0]
    ratio = ratio_of_medians([[3 * drift] for drift in weather], [[drift] for drift in weather])
    assert ratio.estimate == pytest.approx(3)
    assert ratio.relative_width == pytest.approx(0)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        above = [list(random.normal(1.1, 0.02, 5)) for _ in range(6)]
        below = [list(random.normal(1.0, 0.02, 5)) for _ in range(6)]
        covered += not ratio_of_medians(above, below).excludes(1.1)
    assert 0.92 <= covered / 400 <= 0.98


def test_one_round_supports_no_interval() -> None:
    ratio = ratio_of_medians([[2.0]], [[1.0]])
    assert (ratio.estimate, ratio.low, ratio.high) == (2.0, 0.0, math.inf)


def test_rounds_must_pair() -> None:
    with pytest.raises(ValueError, match="turns"):
        ratio_of_medians([[1.0]], [[1.0], [1.0]])


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_a_proportion_lies_inside_its_interval(counts: tuple[int, int]) -> None:
    share = proportion(*counts)
    assert 0 <= share.low <= share.estimate <= share.high <= 1


def test_wilson_matches_the_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263
    share = proportion(81, 263)
    assert (round(share.low, 4), round(share.high, 4)) == (0.2553, 0.3662)


def test_sqnr_of_a_tenth_of_the_amplitude_is_20_db() -> None:
    reference = np.ones(100)
    assert sqnr_db(reference, reference * 0.9) == pytest.approx(20)
    assert sqnr_db(reference, reference) == math.inf
    assert sqnr_db(np.zeros(3), np.ones(3)) == -math.inf


def test_percentiles_interpolate() -> None:
    assert percentile([1, 2, 3, 4], 50) == 2.5
