import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.stats import (
    Interval,
    mean,
    paired_drop,
    paired_score,
    percentile,
    proportion,
    ratio_of_medians,
    sqnr,
    sqnr_db,
)

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


paired = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 2000)).filter(any)


@pytest.mark.parametrize(
    ("lost", "gained", "count", "published"),
    [
        # Tango 1998, section 6.1 (contact lenses): 43 pairs both, 1 the standard alone; lower limit of new - standard
        (1, 0, 44, (None, 0.096)),
        # PropCIs::scoreci.mp(25, 28, 618) in R
        (28, 25, 618, (-0.0148, 0.0247)),
    ],
)
def test_a_paired_drop_matches_published_90_percent_intervals(
    lost: int, gained: int, count: int, published: tuple[float | None, float]
) -> None:
    drop = paired_drop(lost, gained, count, 0.90)
    low, high = published
    digits = 3 if low is None else 4
    assert round(drop.high, digits) == high
    assert low is None or round(drop.low, digits) == low


def quartic_ends(lost: int, gained: int, count: int, point: float) -> np.ndarray:
    """The real roots of the polynomial that is left when q is eliminated from the score equation: no square root."""
    drop = np.polynomial.Polynomial([0, 1])
    share = ((lost - gained - count * drop) ** 2 / (point**2 * count) - drop * (1 - drop)) / 2
    linear = (2 * count - lost + gained) * drop - lost - gained
    roots = (2 * count * share**2 + linear * share - gained * drop * (1 - drop)).roots()
    return np.sort(roots[abs(roots.imag) < 1e-6].real)


def score_by_search(lost: int, gained: int, count: int, drop: float) -> float:
    """Tango's statistic with the likeliest share of gained samples found on ever finer grids."""
    low, high = max(0.0, -drop), (1 - drop) / 2
    for _ in range(12):
        shares = np.linspace(low, high, 41)
        chances = np.stack([shares + drop, shares, 1 - 2 * shares - drop])
        likelihood = np.array([lost, gained, count - lost - gained]) @ np.log(np.maximum(chances, 1e-300))
        best = int(likelihood.argmax())
        low, high = shares[max(0, best - 1)], shares[min(40, best + 1)]
    return (lost - gained - count * drop) / math.sqrt(count * (low + high + drop * (1 - drop)))


@pytest.mark.parametrize(
    "counts", [(12, 2, 50), (2, 12, 50), (40, 20, 160), (13, 3, 400), (1, 7, 50), (5, 5, 10), (3, 1, 9000)]
)
def test_a_paired_drop_agrees_with_two_other_ways_to_compute_it(counts: tuple[int, int, int]) -> None:
    drop = paired_drop(*counts)
    ends = quartic_ends(*counts, 1.959964)
    assert min(abs(ends - drop.low)) < 1e-6
    assert min(abs(ends - drop.high)) < 1e-6
    assert score_by_search(*counts, drop.low) == pytest.approx(1.959964, abs=1e-4)
    assert score_by_search(*counts, drop.high) == pytest.approx(-1.959964, abs=1e-4)


@given(paired)
def test_a_paired_drop_lies_inside_its_interval_and_turns_round(counts: tuple[int, int, int]) -> None:
    lost, gained, same = counts
    count = lost + gained + same
    drop, turned = paired_drop(lost, gained, count), paired_drop(gained, lost, count)
    assert -1 <= drop.low <= drop.estimate <= drop.high <= 1
    assert (turned.low, turned.estimate, turned.high) == (-drop.high, -drop.estimate, -drop.low)


@given(paired, st.integers(2, 50))
def test_a_paired_drop_narrows_with_the_count_and_with_the_level(counts: tuple[int, int, int], times: int) -> None:
    lost, gained, same = counts
    count = lost + gained + same
    few, many = paired_drop(lost, gained, count), paired_drop(lost * times, gained * times, count * times)
    assert many.high - many.low < few.high - few.low
    loose = paired_drop(lost, gained, count, 0.90)
    assert few.low <= loose.low <= loose.high <= few.high


def test_no_discordant_sample_still_leaves_a_width() -> None:
    drop = paired_drop(0, 0, 100)
    assert drop.high == -drop.low == pytest.approx(1.959964**2 / (100 + 1.959964**2))


def test_under_no_drop_the_score_is_mcnemars() -> None:
    assert paired_score(12, 2, 50, 0.0) == pytest.approx((12 - 2) / math.sqrt(12 + 2))


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_are_not_paired_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="paired counts"):
        paired_drop(*counts)


def test_the_paired_drop_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    draws = random.multinomial(300, [0.06, 0.03, 0.91], size=1000)
    covered = sum(not paired_drop(int(lost), int(gained), 300).excludes(0.03) for lost, gained, _ in draws)
    assert 0.93 <= covered / 1000 <= 0.97


@pytest.mark.parametrize("level", [0.90, 0.95])
@pytest.mark.parametrize("count", [2, 3, 8, 31, 32])
def test_the_mean_uses_students_distribution(level: float, count: int) -> None:
    samples = np.arange(count, dtype=float)
    interval = mean(samples, level)
    point = (interval.high - interval.estimate) / (np.std(samples, ddof=1) / math.sqrt(count))
    # Student's density, x = tan(angle) so that its tails are finite, integrated by the trapezoid rule
    freedom = count - 1
    angles = np.linspace(-math.atan(point), math.atan(point), 20_001)
    logs = -(freedom + 1) / 2 * np.log1p(np.tan(angles) ** 2 / freedom) - 2 * np.log(np.cos(angles))
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    inside = scale * float(np.exp(logs)[:-1].sum() * (angles[1] - angles[0]))
    assert inside == pytest.approx(level, abs=5e-4)


def test_one_sample_has_a_mean_without_ends() -> None:
    assert mean(np.array([3.0])) == Interval(3.0, -math.inf, math.inf)
    assert sqnr(np.ones((1, 4)), np.full((1, 4), 0.9)).low == -math.inf


def test_the_interval_of_sqnr_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        reference = random.standard_normal((40, 1)) * random.standard_normal((40, 16))
        given_ = reference + 0.1 * random.standard_normal((40, 1)) * random.standard_normal((40, 16))
        covered += not sqnr(reference, given_, 0.90).excludes(20.0)
    assert 0.83 <= covered / 400 <= 0.95


@given(st.floats(0.01, 100))
def test_sqnr_does_not_depend_on_the_scale_of_both(factor: float) -> None:
    random = np.random.default_rng(0)
    reference = random.standard_normal((12, 3))
    given_ = reference + 0.2 * random.standard_normal((12, 3))
    one, other = sqnr(reference, given_), sqnr(reference * factor, given_ * factor)
    assert (one.low, one.estimate, one.high) == pytest.approx((other.low, other.estimate, other.high))
    assert one.estimate == pytest.approx(sqnr_db(reference, given_))
    assert sqnr(reference, reference) == Interval(math.inf, math.inf, math.inf)
