"""How sure a score and a drop are: by the method that fits, repeatable, and covering the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain import stats
from toolchain.accuracy.metrics import intervals
from toolchain.accuracy.metrics.built_in import BUILT_IN
from toolchain.accuracy.metrics.metric import Metric

MAE, RMSE, TOP1, F1, R2 = (BUILT_IN[name]() for name in ("mae", "rmse", "top1", "f1", "r2"))
Pair = tuple[np.ndarray, np.ndarray, np.ndarray]


def regression(seed: int, count: int) -> Pair:
    """(Answers, worse answers, targets)."""
    random = np.random.default_rng(seed)
    targets = random.normal(size=(count, 1))
    answers = targets + 0.4 * random.normal(size=(count, 1))
    return answers, answers + 0.2 * random.normal(size=(count, 1)), targets


def classes(seed: int, count: int) -> Pair:
    random = np.random.default_rng(seed)
    labels = random.choice(4, size=count, p=[0.4, 0.3, 0.2, 0.1])
    scores = random.normal(size=(count, 4)) + 2 * np.eye(4)[labels]
    return scores, scores + 0.6 * random.normal(size=scores.shape), labels


def drop(metric: Metric, pair: Pair, level: float = 0.9) -> stats.Interval:
    better, worse, targets = pair
    return intervals.drop(metric, metric.rows(better, targets), metric.rows(worse, targets), level)


def test_shares_of_samples_keep_the_score_intervals() -> None:
    better, worse, labels = classes(0, 300)
    right, after = (scores.argmax(1) == labels for scores in (better, worse))
    assert intervals.score(TOP1, TOP1.rows(better, labels)) == stats.proportion(int(right.sum()), 300)
    lost, gained = int((right & ~after).sum()), int((after & ~right).sum())
    assert drop(TOP1, (better, worse, labels)) == stats.paired_drop(lost, gained, 300, 0.9)


def test_other_means_have_students_interval_of_the_paired_differences() -> None:
    better, worse, targets = regression(0, 50)
    losses = (np.abs(worse - targets) - np.abs(better - targets))[:, 0]
    found = drop(MAE, (better, worse, targets))
    assert found.estimate == pytest.approx(losses.mean())
    assert (found.low, found.high) == pytest.approx(tuple(vars(stats.mean(losses, 0.9)).values())[1:])


@pytest.mark.parametrize("metric", [MAE, RMSE, R2, F1], ids=lambda metric: metric.name)
def test_worse_is_positive_whichever_way_is_better(metric: Metric) -> None:
    better, worse, targets = classes(1, 400) if metric is F1 else regression(1, 400)
    assert drop(metric, (better, worse, targets)).estimate > 0 > drop(metric, (worse, better, targets)).estimate


@given(st.integers(0, 2**31), st.integers(2, 60))
@settings(max_examples=15, deadline=None)
def test_a_bootstrap_is_the_same_each_time_and_holds_its_estimate(seed: int, count: int) -> None:
    found = drop(RMSE, regression(seed, count))
    assert found == drop(RMSE, regression(seed, count))
    assert found.low <= found.estimate <= found.high


def test_a_copy_loses_nothing_surely() -> None:
    better, _, targets = regression(3, 40)
    assert drop(RMSE, (better, better, targets)) == stats.Interval(0, 0, 0)


def test_one_sample_tells_nothing() -> None:
    better, worse, targets = regression(3, 1)
    found = drop(RMSE, (better, worse, targets))
    assert (found.low, found.high) == (-math.inf, math.inf)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "make", "count"), [(RMSE, regression, 60), (R2, regression, 60), (F1, classes, 150)],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_bounds_cover_the_truth(metric: Metric, make, count: int) -> None:  # type: ignore[no-untyped-def]
    """Each bound of 95 %: of 300 samples at least 91 % (95 less three standard errors), and not always."""
    better, worse, targets = make(10**6, 200_000)
    truth = metric.loss(metric.of(better, targets), metric.of(worse, targets))
    found = [drop(metric, make(seed, count)) for seed in range(300)]
    below, above = (np.mean([each]) for each in ([f.low <= truth for f in found], [f.high >= truth for f in found]))
    assert min(below, above) >= 0.91
    assert min(below, above) < 1


def test_a_score_of_a_share_stays_within_it() -> None:
    scores, labels = np.eye(3)[np.arange(30) % 3], np.arange(30) % 3
    found = intervals.score(F1, F1.rows(scores, labels))
    assert (found.estimate, found.high) == (1, 1)
