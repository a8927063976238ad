import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from toolchain.stats import (
    Interval,
    mean,
    paired_drop,
    paired_score,
    percentile,
    percentile_interval,
    proportion,
    ratio_of_medians,
    ratio_of_unpaired_medians,
    shown,
    shown_ratio,
    sqnr_db,
    sqnr_of,
    students_point,
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


def turns(random: np.random.Generator, rounds: int, noise: float, *, slower: float = 1.0) -> list[list[float]]:
    """Rounds of ten runs each; ``noise`` is that of a run."""
    return [list(slower * random.normal(1, noise, 10)) for _ in range(rounds)]


def test_a_model_against_itself_shows_no_difference_and_one_slower_by_3_percent_does() -> None:
    same = found = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        baseline = turns(random, 5, 0.02)
        same += not ratio_of_medians(turns(random, 5, 0.02), baseline).excludes(1)
        found += ratio_of_medians(turns(random, 5, 0.02, slower=1.03), baseline).low > 1
    assert same >= 95
    assert found >= 95


@pytest.mark.parametrize("rounds", [5, 11, 12, 30])
def test_drift_that_both_rows_see_does_not_hurt_the_coverage(rounds: int) -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        drift = np.exp(np.cumsum(random.normal(0, 0.05, rounds)))
        rows = random.normal(1, 0.02, (2, rounds)) * drift
        covered += not ratio_of_medians(rows[0, :, None].tolist(), rows[1, :, None].tolist()).excludes(1)
    assert 0.93 <= covered / 600 <= 0.98


def test_from_12_rounds_on_a_turn_that_was_disturbed_does_not_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    above, below = random.normal(1, 0.01, (2, 20, 1)).tolist()
    clean = ratio_of_medians(above, below)
    above[3] = [1.5]
    disturbed = ratio_of_medians(above, below)
    assert disturbed.relative_width < 1.5 * clean.relative_width
    assert disturbed.estimate == pytest.approx(clean.estimate, abs=0.002)


@pytest.mark.parametrize(("rounds", "critical"), [(12, 13), (20, 52), (25, 89)])
def test_the_signed_ranks_are_those_of_wilcoxons_table(rounds: int, critical: int) -> None:
    # the largest rank sum that is significant at 5 %, two-sided: Wilcoxon and Wilcox 1964, table 1
    logs = np.sqrt(np.arange(1.0, rounds + 1))
    ratio = ratio_of_medians(np.exp(logs)[:, None].tolist(), [[1.0]] * rounds, level=0.95)
    means = np.sort(((logs[:, None] + logs) / 2)[np.triu_indices(rounds)])
    ends = np.searchsorted(means, [math.log(ratio.low) - 1e-9, math.log(ratio.high) - 1e-9])
    assert critical - 1 <= ends[0] <= critical
    assert ends[0] + ends[1] == len(means) - 1


@pytest.mark.parametrize("rounds", [12, 20, 30, 100])
def test_the_signed_ranks_interval_ends_where_wilcoxons_test_begins_to_refuse(rounds: int) -> None:
    logs = np.random.default_rng(rounds).normal(size=rounds)
    ratio = ratio_of_medians(np.exp(logs)[:, None].tolist(), [[1.0]] * rounds, level=0.95)

    def chance(shift: float) -> float:
        wilcoxon: Any = stats.wilcoxon
        return float(wilcoxon(logs - shift, method="asymptotic", correction=True).pvalue)

    for end, inwards in ((math.log(ratio.low), 1e-9), (math.log(ratio.high), -1e-9)):
        assert chance(end + inwards) >= 0.05 > chance(end - inwards)


def test_one_round_supports_no_interval() -> None:
    nothing = Interval(2.0, 0.0, math.inf)
    assert ratio_of_medians([[2.0]], [[1.0]]) == nothing
    assert ratio_of_unpaired_medians([[2.0]], [[1.0], [1.0]]) == nothing
    assert percentile_interval([[1.0, 2.0, 3.0]], 50) == nothing


@given(rounds, rounds)
def test_an_unpaired_ratio_turned_round_is_its_inverse(new: list[list[float]], old: list[list[float]]) -> None:
    one, other = ratio_of_unpaired_medians(new, old), ratio_of_unpaired_medians(old, new)
    assert 0 <= one.low <= one.estimate * (1 + 1e-9)
    assert one.high >= one.estimate * (1 - 1e-9)
    assert one.estimate == pytest.approx(1 / other.estimate)
    assert one.low == pytest.approx(1 / other.high)


def test_intervals_are_those_that_r_gives_for_students_sleep_data() -> None:
    # t.test(extra ~ group, data = sleep) and its paired form, in R; the hours of sleep gained stand for log latencies
    one = np.exp([[0.7], [-1.6], [-0.2], [-1.2], [-0.1], [3.4], [3.7], [0.8], [0.0], [2.0]]).tolist()
    other = np.exp([[1.9], [0.8], [1.1], [0.1], [-0.1], [4.4], [5.5], [1.6], [4.6], [3.4]]).tolist()
    welch, paired = ratio_of_unpaired_medians(one, other), ratio_of_medians(one, other, level=0.95)
    assert np.log([welch.low, welch.high]) == pytest.approx([-3.3654832, 0.2054832], abs=1e-7)
    assert np.log([paired.low, paired.high]) == pytest.approx([-2.4598858, -0.7001142], abs=1e-7)


def test_the_unpaired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        new, old = random.normal(1.1, 0.04, (5, 1)).tolist(), random.normal(1, 0.01, (20, 1)).tolist()
        covered += not ratio_of_unpaired_medians(new, old).excludes(1.1)
    assert 0.93 <= covered / 600 <= 0.97


@given(rounds, st.floats(0.01, 100), st.sampled_from([50, 90, 99]))
def test_a_percentile_lies_inside_its_interval_and_scales(blocks: list[list[float]], factor: float, q: float) -> None:
    one = percentile_interval(blocks, q)
    other = percentile_interval([[sample * factor for sample in block] for block in blocks], q)
    assert one.low <= one.estimate <= one.high
    assert one.estimate == percentile([sample for block in blocks for sample in block], q)
    assert (other.low, other.high) == pytest.approx((one.low * factor, one.high * factor))


def test_rounds_that_differ_widen_a_percentiles_interval() -> None:
    random = np.random.default_rng(0)
    alike = random.normal(1, 0.01, (8, 100))
    apart = alike * random.normal(1, 0.05, (8, 1))
    mixed = random.permutation(apart.ravel()).reshape(8, 100)  # the same runs, but rounds are alike
    widths = [percentile_interval(blocks.tolist(), 50).relative_width for blocks in (alike, mixed, apart)]
    assert widths[0] < 0.003
    assert widths[2] > 3 * widths[1]


def test_the_interval_of_a_median_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        blocks = random.normal(1, 0.02, (5, 30)) * random.normal(1, 0.03, (5, 1))
        covered += not percentile_interval(blocks.tolist(), 50).excludes(1)
    assert 0.93 <= covered / 200 <= 0.99


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((0.10934, 0.1072, 0.1114), "0.109"),
        ((9213, 9063, 9363), "9,200"),
        ((61_893, 61_863, 61_923), "61,900"),
        ((16.04, 15.5, 16.5), "16.0"),
        ((9.96, 8.7, 11.1), "10"),
        ((2.5, 2.5, 2.5), "2.50"),
        ((0.1, 0.0, math.inf), "~0.1"),
        ((0.12, 0.0, 0.3), "~0.1"),
        ((0.0, 0.0, 0.0), "0.00"),
        ((-0.0123, -0.0133, -0.0113), "-0.012"),
    ],
)
def test_no_more_digits_are_shown_than_the_interval_supports(interval: tuple[float, ...], text: str) -> None:
    assert shown(Interval(*interval)) == text


@given(st.floats(1e-4, 1e6), st.floats(1e-6, 0.99))
def test_what_is_shown_is_within_half_the_interval(estimate: float, width: float) -> None:
    half = estimate * width
    text = shown(Interval(estimate, estimate - half, estimate + half))
    assert not text.startswith("~")
    # half a unit of the last digit, which is that of the half-width or the third
    assert abs(float(text.replace(",", "")) - estimate) <= max(half / 2, estimate * 0.005) * (1 + 1e-9)
    significant = text.replace(",", "").replace(".", "").lstrip("0")
    assert len(significant.rstrip("0") if "." not in text else significant) <= 4  # 9.996 rounds up to 10.00


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        ((1.213, 1.204, 1.221), "1.21x (1.20–1.22)"),
        ((6.42, 6.2, 6.7), "6.4x (6.2–6.7)"),
        ((20.3, 14.8, 27.1), "20x (15–27)"),
        ((1.0, 0.0, math.inf), "~1x"),
        ((2.2, 0.4, 9.0), "~2x"),
    ],
)
def test_a_ratio_is_shown_with_its_ends(ratio: tuple[float, ...], text: str) -> None:
    assert shown_ratio(Interval(*ratio)) == text


@pytest.mark.parametrize(
    ("freedom", "level", "published"),
    [(1, 0.95, 12.706), (2, 0.90, 2.920), (5, 0.95, 2.571), (30, 0.99, 2.750), (120, 0.95, 1.980), (1e7, 0.95, 1.960)],
)
def test_students_points_are_those_of_the_tables(freedom: float, level: float, published: float) -> None:
    assert students_point(freedom, level) == pytest.approx(published, abs=5e-4)


def test_students_point_at_two_degrees_of_freedom_has_a_closed_form_and_falls_in_between() -> None:
    assert students_point(2, 0.95) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-9)
    points = [students_point(freedom, 0.95) for freedom in np.linspace(1, 80, 500)]
    assert all(np.diff(points) < 0)


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


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_a_proportion_has_the_interval_that_scipy_gives(counts: tuple[int, int]) -> None:
    share, theirs = proportion(*counts), stats.binomtest(*counts).proportion_ci(method="wilson")
    assert (share.low, share.high) == pytest.approx((theirs.low, theirs.high), abs=1e-8)


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


def sqnr(reference: np.ndarray, given_: np.ndarray, level: float = 0.95) -> Interval:
    return sqnr_of(np.square(reference).sum(1), np.square(reference - given_).sum(1), level)


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
