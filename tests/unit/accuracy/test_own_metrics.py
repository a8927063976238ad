"""A user's own function as a metric, and all that it may do wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from toolchain.accuracy.metrics import intervals
from toolchain.accuracy.metrics.metric import joined
from toolchain.accuracy.metrics.own import of_function
from toolchain.errors import BadUsage

OUTPUTS = np.arange(12.0).reshape(6, 2)
TARGETS = OUTPUTS + 1


def judged(function: Callable[[Any, Any], Any]) -> float:
    return of_function(function, "my.py:score", higher_is_better=True).of({"y": OUTPUTS}, TARGETS)


def test_one_number_a_sample_is_a_mean() -> None:
    assert judged(lambda outputs, targets: np.abs(outputs - targets).mean(1)) == 1
    assert judged(lambda outputs, targets: [float(each.sum()) for each in outputs]) == 11


def test_one_number_over_all_is_the_score_of_all_calls_together() -> None:
    metric = of_function(lambda outputs, targets: float(np.median(outputs)), "my.py:score", higher_is_better=True)
    rows = joined([metric.rows(OUTPUTS[:4], TARGETS[:4]), metric.rows(OUTPUTS[4:], TARGETS[4:])])
    assert metric.score(rows) == np.median(OUTPUTS)
    assert metric.scorer(rows)(np.array([0, 0, 0, 0, 0, 2])) == np.median(OUTPUTS[5])
    assert intervals.score(metric, rows).low < np.median(OUTPUTS) < intervals.score(metric, rows).high


def test_one_output_comes_as_itself_and_several_by_name() -> None:
    seen: list[Any] = []

    def function(outputs: Any, targets: Any) -> float:
        seen.append(outputs)
        return 0.0

    metric = of_function(function, "my.py:f", higher_is_better=True)
    metric.rows({"y": OUTPUTS}, TARGETS)
    metric.rows({"y": OUTPUTS, "z": OUTPUTS}, TARGETS)
    assert isinstance(seen[0], np.ndarray)
    assert sorted(seen[1]) == ["y", "z"]


def test_targets_may_be_texts_ragged_or_several() -> None:
    metric = of_function(lambda outputs, targets: [len(each) for each in targets], "my.py:f", higher_is_better=True)
    assert metric.of(OUTPUTS[:2], [np.zeros((3, 4)), np.zeros((1, 4))]) == 2
    assert metric.of(OUTPUTS[:2], np.array(["a", "bcd"])) == 2
    named = of_function(lambda outputs, targets: float(len(targets["t"])), "my.py:f", higher_is_better=True)
    assert named.of(OUTPUTS[:2], {"t": [np.zeros(3), np.zeros(1)]}) == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda outputs, targets: [1.0, 2.0], r"gave \[2\] numbers for 6 samples"),
        (lambda outputs, targets: np.full(6, np.nan), "gave NaN for 6 of 6 samples"),
        (lambda outputs, targets: [1, 2, 3, 4, 5, np.inf], "gave infinity for 1 of 6 samples"),
        (lambda outputs, targets: float("nan"), "is nan: it is not defined"),
        (lambda outputs, targets: 1 / 0, "failed: ZeroDivisionError: division by zero"),
        (lambda outputs: 1, "failed: TypeError"),
        (lambda outputs, targets: None, "gave a NoneType, which is no number"),
        (lambda outputs, targets: "good", "gave a str, which is no number"),
    ],
)
def test_what_a_function_does_wrong_is_one_sentence(function: Callable[[Any, Any], Any], message: str) -> None:
    with pytest.raises(BadUsage, match=message):
        judged(function)
