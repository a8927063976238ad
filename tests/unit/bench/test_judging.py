"""The bench and the conversions give one verdict on the same samples and limit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.bench.scripted_bench import timed
from toolchain.accuracy import gate
from toolchain.accuracy.gate import DEFAULT, Requirement
from toolchain.accuracy.status import Status
from toolchain.bench.judging import judge_with
from toolchain.bench.record import Row
from toolchain.inputs.samples import Samples
from toolchain.stats import paired_drop

CLASSES = 3
REQUIREMENTS = st.one_of(st.just(DEFAULT), st.builds(Requirement, max_drop=st.floats(0, 0.2)))


def scores(answers: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.eye(CLASSES, dtype=np.float32)[answers]
    return found


def samples_with(labels: np.ndarray) -> Samples:
    inputs = {"x": np.zeros((len(labels), 1), np.float32)}
    return Samples(inputs=inputs, labels=labels, source="test", real=False)


def rows() -> tuple[Row, Row]:
    """A baseline, and an int8 row, whose outputs on made-up samples are judged by their answers alone."""
    before, after = (timed(label, 1.0, None) for label in ("float", "int8"))
    candidate = type(after.candidate)(**{**vars(after.candidate), "precision": "int8-static"})
    return before, type(after)(candidate=candidate, setting=after.setting)


@given(
    count=st.integers(1, 3000), lost=st.integers(0, 60), gained=st.integers(0, 60), requirement=REQUIREMENTS
)  # fmt: skip
def test_a_row_has_the_status_that_the_gate_gives(count: int, lost: int, gained: int, requirement: Requirement) -> None:
    lost = min(lost, count)
    gained = min(gained, count - lost)
    labels = np.arange(count) % CLASSES
    wrong = (labels + 1) % CLASSES
    numbers = np.arange(count)
    reference = scores(np.where((numbers >= lost) & (numbers < lost + gained), wrong, labels))
    found = scores(np.where(numbers < lost, wrong, labels))
    verdict = gate.judge(requirement, [{"0": reference}], [{"0": found}], labels)
    before, after = rows()
    judgement = judge_with(samples_with(labels), requirement=requirement)(
        after, [{"0": found}], (before, [{"0": reference}])
    )
    assert judgement.status is verdict.status
    assert judgement.drop == paired_drop(lost, gained, count)
    assert (verdict.text in judgement.reason) == (verdict.status is not Status.OK)
    row = judgement.on(after)
    assert (row.status, row.drop, row.accuracy) == (judgement.status, judgement.drop, judgement.accuracy)


def test_labels_that_do_not_fit_fail_the_row_and_not_the_run() -> None:
    before, after = rows()
    outputs = [{"0": scores(np.array([0, 1, 2]))}]
    judge = judge_with(samples_with(np.array([0, 1, 7])))
    judgement = judge(after, outputs, (before, outputs))
    assert judgement.status is Status.FAILED
    assert "from 0 to 7" in judgement.reason


def test_a_baseline_that_is_not_finite_is_not_the_fault_of_a_row() -> None:
    before, after = rows()
    labels = np.array([0, 1, 2])
    broken = scores(labels)
    broken[1] = np.nan
    judge = judge_with(samples_with(labels))
    assert judge(before, [{"0": broken}], None).status is Status.FAILED
    judgement = judge(after, [{"0": scores(labels)}], (before, [{"0": broken}]))
    assert judgement.accuracy is not None
    assert judgement.accuracy.estimate == 1
    assert judgement.parity is not None


def test_outputs_of_other_names_are_compared_place_by_place() -> None:
    before, after = rows()
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    judge = judge_with(Samples(inputs={"x": np.zeros((3, 1), np.float32)}, labels=None, source="test", real=True))
    expected = [{"a": numbers, "b": numbers[::-1]}]
    assert judge(after, [{"x": numbers, "y": numbers[::-1]}], (before, expected)).parity == "exact"
    assert judge(after, [{"x": numbers[::-1], "y": numbers}], (before, expected)).parity != "exact"
    swapped = [{"b": numbers[::-1], "a": numbers}]
    assert judge(after, swapped, (before, expected)).parity == "exact"


def test_sequences_maps_scalars_and_lengths_that_data_decide_are_judged() -> None:
    before, after = rows()
    after = type(after)(candidate=before.candidate, setting=after.setting)
    judge = judge_with(Samples(inputs={"x": np.zeros((2, 1), np.float32)}, labels=None, source="test", real=True))
    first = {"seq": [np.ones(2), np.zeros((1, 3))], "p": [{0: 0.1, 1: 0.9}], "s": np.float32(3), "n": np.arange(3)}
    second = {**first, "seq": [np.ones(5), np.zeros((1, 3))], "n": np.arange(7)}
    assert judge(after, [first, second], (before, [first, second])).status is Status.OK
    wrong = {**second, "seq": [np.ones(5), np.ones((1, 3))]}
    judgement = judge(after, [first, wrong], (before, [first, second]))
    assert judgement.status is Status.UNPROVEN
    assert "seq[1]" in judgement.reason
    assert judge(after, [first], (before, [first, second])).status is Status.UNPROVEN
