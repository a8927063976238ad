import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain import records
from toolchain.accuracy import gate
from toolchain.accuracy.criteria import LEVEL, samples_needed
from toolchain.accuracy.gate import DEFAULT, Requirement, Verdict, require
from toolchain.accuracy.status import Status
from toolchain.errors import BadUsage, CheckFailed, ExitCode, Undecided, explain
from toolchain.stats import paired_drop, paired_score


def judge(
    requirement: Requirement, reference: np.ndarray, given: np.ndarray, labels: np.ndarray | None = None
) -> Verdict:
    """The verdict on a model of one output, run in one call."""
    return gate.judge(requirement, [{"y": reference}], [{"y": given}], labels)


def scores(answers: np.ndarray, classes: int = 3) -> np.ndarray:
    """(N, K) scores whose largest is each answer's."""
    found: np.ndarray = np.eye(classes, dtype=np.float32)[answers]
    return found


def classified(lost: int, gained: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(reference, given, labels) with so many answers lost and gained, the rest right in both."""
    labels = np.arange(count) % 3
    before, after = labels.copy(), labels.copy()
    after[:lost] = (labels[:lost] + 1) % 3
    before[lost : lost + gained] = (labels[lost : lost + gained] + 1) % 3
    return scores(before), scores(after), labels


@pytest.mark.parametrize(
    ("lost", "gained", "count", "outcome"),
    [
        (2, 1, 10_000, Status.OK),
        (200, 20, 10_000, Status.UNPROVEN),
        (60, 20, 10_000, Status.UNDECIDED),
        (0, 0, 10_000, Status.OK),
        (0, 0, 100, Status.UNDECIDED),
        (0, 300, 10_000, Status.OK),
        (1, 0, 1, Status.UNDECIDED),
    ],
)
def test_a_drop_of_half_a_point(lost: int, gained: int, count: int, outcome: Status) -> None:
    verdict = judge(Requirement(max_drop=0.005), *classified(lost, gained, count))
    assert verdict.status is outcome
    assert verdict.drop == paired_drop(lost, gained, count, 0.90)
    assert verdict.samples == count
    assert (verdict.samples_needed is not None) == (outcome is Status.UNDECIDED)


def test_a_verdict_says_what_a_person_must_know() -> None:
    verdict = judge(Requirement(max_drop=0.005), *classified(4, 1, 1000))
    assert verdict.text == (
        "On 1,000 samples the drop in accuracy is 0.30 points (95 % bounds -0.09 and 0.80; 4 answers lost, 1 gained), "
        "and at most 0.5 is allowed: it would take about 4,399 samples to tell."
    )


def test_wrong_answers_that_both_give_count_for_neither() -> None:
    reference, given, labels = classified(0, 0, 2000)
    labels[:500] = (labels[:500] + 1) % 3
    verdict = judge(Requirement(max_drop=0.005), reference, given, labels)
    assert verdict.drop == paired_drop(0, 0, 2000, LEVEL)
    assert verdict.status is Status.OK


@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 3000), st.floats(0.001, 0.2))
def test_the_samples_needed_decide_and_one_less_does_not(lost: int, gained: int, count: int, limit: float) -> None:
    needed = samples_needed(lost=lost, gained=gained, count=count, max_drop=limit)
    if needed is None:
        assert (lost - gained) / count == pytest.approx(limit)
        return

    def score_at(number: float) -> float:
        share = number / count
        return abs(paired_score(lost * share, gained * share, number, limit))  # type: ignore[arg-type]

    assert score_at(needed) >= 1.644853 or needed == 1
    assert score_at(needed - 1) < 1.644855


def test_samples_needed_agrees_with_the_interval() -> None:
    # 4 lost and 1 gained of 1,000 is undecided at 0.5 points; so many times more of the same is not
    needed = samples_needed(lost=4, gained=1, count=1000, max_drop=0.005)
    assert needed is not None
    assert paired_drop(16, 4, 4000, LEVEL).high > 0.005
    assert 4000 < needed < 5000
    assert paired_drop(20, 5, 5000, LEVEL).high < 0.005


def test_no_number_of_samples_decides_about_the_observed_drop_itself() -> None:
    assert samples_needed(lost=3, gained=0, count=1000, max_drop=0.3 / 100) is None
    verdict = judge(Requirement(max_drop=0.003), *classified(3, 0, 1000))
    assert verdict.status is Status.UNDECIDED
    assert verdict.samples_needed is None
    with pytest.raises(Undecided, match="cannot tell") as caught:
        require(verdict)
    assert "not exactly what was measured" in caught.value.do


def test_a_gate_at_the_limit_lets_few_bad_models_through() -> None:
    # a model that truly loses a point passes a gate of one point in at most some 5 % of the trials
    random = np.random.default_rng(0)
    passed = sum(
        paired_drop(int(lost), int(gained), 5000, LEVEL).high <= 0.01
        for lost, gained, _ in random.multinomial(5000, [0.03, 0.02, 0.95], size=1000)
    )
    assert 0.03 <= passed / 1000 <= 0.07


def noisy(deviation: float, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    reference = random.standard_normal((count, 4, 5)).astype(np.float32)
    return reference, (reference + deviation * random.standard_normal(reference.shape)).astype(np.float32)


@pytest.mark.parametrize(("wanted", "outcome"), [(19, "passed"), (20, "undecided"), (21, "failed")])
def test_sqnr_is_judged_with_its_spread(wanted: float, outcome: str) -> None:
    verdict = judge(Requirement(min_sqnr_db=wanted), *noisy(0.1))
    assert verdict.word == outcome
    assert verdict.sqnr_db is not None
    assert verdict.sqnr_db.estimate == pytest.approx(20, abs=0.3)
    assert verdict.drop is None
    assert "SQNR" in verdict.text


@pytest.mark.parametrize(("wanted", "outcome"), [(0.99, "passed"), (0.999, "failed")])
def test_the_mean_cosine_is_judged_with_its_spread(wanted: float, outcome: str) -> None:
    verdict = judge(Requirement(min_cosine=wanted), *noisy(0.1))
    assert verdict.word == outcome
    assert verdict.cosine is not None
    assert verdict.cosine.estimate == pytest.approx(1 / math.sqrt(1.01), abs=1e-3)


def test_an_undecided_floor_says_how_many_samples_would_do() -> None:
    verdict = judge(Requirement(min_sqnr_db=20), *noisy(0.1))
    assert verdict.samples_needed is not None
    assert verdict.samples_needed > 200
    assert f"about {verdict.samples_needed:,} samples" in verdict.text


def test_one_sample_supports_no_interval() -> None:
    verdict = judge(Requirement(min_sqnr_db=5), *noisy(0.1, count=1))
    assert (verdict.status, verdict.samples_needed) == (Status.UNDECIDED, None)


@pytest.mark.parametrize("requirement", [Requirement(min_cosine=1.0), Requirement(min_sqnr_db=200)])
def test_equal_outputs_meet_every_floor(requirement: Requirement) -> None:
    reference, _ = noisy(0)
    reference[0] = 0
    assert judge(requirement, reference, reference).status is Status.OK


def test_an_output_that_is_zero_where_the_reference_is_not_has_cosine_zero() -> None:
    reference, _ = noisy(0)
    verdict = judge(Requirement(min_cosine=0.5), reference, np.zeros_like(reference))
    assert verdict.status is Status.UNPROVEN
    assert verdict.cosine is not None
    assert verdict.cosine.estimate == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("requirement", [Requirement(max_drop=1), Requirement(min_cosine=-1)])
def test_nan_and_infinity_never_pass(poison: float, requirement: Requirement) -> None:
    reference, given, labels = classified(0, 0, 1000)
    given[7, 0] = poison
    verdict = judge(requirement, reference, given, labels)
    assert verdict.status is Status.UNPROVEN
    assert "1 of 1,000 samples" in verdict.text


def test_all_criteria_must_pass_and_each_is_told() -> None:
    reference, given, labels = classified(0, 0, 100)
    both = judge(Requirement(max_drop=0.005, min_sqnr_db=10), reference, given, labels)
    assert both.status is Status.UNDECIDED
    assert both.samples_needed == 539  # nothing lost: z^2 (1 - 0.005) / 0.005 of them
    assert "drop in accuracy" in both.text
    assert "SQNR is inf dB" in both.text
    worse = judge(Requirement(max_drop=0.005, min_sqnr_db=10), reference, -given, labels)
    assert (worse.status, worse.samples_needed) == (Status.UNPROVEN, None)


def test_the_errors_carry_the_verdict_and_the_exit_code() -> None:
    require(judge(Requirement(max_drop=0.005), *classified(0, 0, 2000)))
    with pytest.raises(CheckFailed, match=r"drop in accuracy is 10\.00 points"):
        require(judge(Requirement(max_drop=0.005), *classified(100, 0, 1000)))
    with pytest.raises(Undecided, match="about 539 samples") as caught:
        require(judge(Requirement(max_drop=0.005), *classified(0, 0, 100)))
    known = explain(caught.value)
    assert known is not None
    assert known[2] is ExitCode.UNDECIDED


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "nothing to require"),
        ({"max_drop": -0.01}, "--max-drop is -1"),
        ({"max_drop": math.nan}, "--max-drop is nan"),
        ({"min_sqnr_db": math.inf}, "--min-sqnr is inf"),
        ({"min_cosine": 1.5}, "--min-cosine is 1.5"),
    ],
)
def test_a_requirement_that_means_nothing_is_refused(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(BadUsage, match=sentence):
        Requirement(**options)  # type: ignore[arg-type]


def test_outputs_that_do_not_belong_together_are_refused() -> None:
    reference, given, labels = classified(0, 0, 10)
    drop = Requirement(max_drop=0.01)
    with pytest.raises(BadUsage, match="without labels") as caught:
        judge(drop, reference, given)
    assert "--min-sqnr" in caught.value.do
    with pytest.raises(BadUsage, match="cannot be compared"):
        judge(drop, reference, given[:5], labels)
    with pytest.raises(BadUsage, match="cannot be compared"):
        judge(drop, reference[:0], given[:0], labels[:0])
    with pytest.raises(BadUsage, match="9 labels"):
        judge(drop, reference, given, labels[:9])
    with pytest.raises(BadUsage, match="class scores"):
        judge(drop, reference[..., None], given[..., None], labels)
    with pytest.raises(BadUsage, match="reference itself"):
        judge(drop, np.full_like(reference, np.nan), given, labels)


@pytest.mark.parametrize("given_scale", [1.0, 0.9, np.nan])
def test_a_verdict_survives_json(given_scale: float) -> None:
    reference, given, labels = classified(3, 1, 400)
    verdict = judge(Requirement(max_drop=0.01), reference, given * np.float32(given_scale), labels)
    assert records.made(Verdict, json.loads(json.dumps(asdict(verdict)))) == verdict


def test_where_nobody_asked_a_drop_that_looks_allowed_passes_and_another_does_not() -> None:
    for lost, status in ((1, Status.OK), (2, Status.OK), (3, Status.UNDECIDED), (20, Status.UNPROVEN)):
        assert judge(DEFAULT, *classified(lost, 0, 100)).status is status
    assert judge(Requirement(max_drop=0.02), *classified(1, 0, 100)).status is Status.UNDECIDED
