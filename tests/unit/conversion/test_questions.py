"""What is guessed ahead of a search steers nobody: any number of workers finds what one finds, by the same trials."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.conversion.test_search import Model, damages, named
from tests.unit.processes.test_workers import Several
from toolchain.accuracy.gate import Verdict
from toolchain.accuracy.status import Status
from toolchain.conversion.questions import Nodes, ahead, questions
from toolchain.conversion.record import Plan
from toolchain.conversion.search import search
from toolchain.errors import CheckFailed
from toolchain.processes.workers import Foresight

one_folder = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Watched(Model):
    """Notes what a search asked for and in vain."""

    def __init__(self, values: list[int], share: float, workers: int) -> None:
        super().__init__(named(values), allowed=share * sum(values))
        self.workers = Several(workers)
        self.consumed: list[Nodes] = []
        self.judging: Foresight[Nodes, Nodes, Verdict] = Foresight(
            self.workers, lambda model, nodes: model.value.evaluate(nodes, iter(())), self.workers.share(self),
            lambda nodes: [nodes],
        )  # fmt: skip

    def answered(self, nodes: Nodes, likely: Iterator[Nodes]) -> Verdict:
        self.consumed.append(nodes)
        return self.judging.answer(nodes, likely)[0]


def plan_of(model: Watched, journal: Path, most: int | None, ranking: list[str]) -> Plan | str:
    journal.unlink(missing_ok=True)
    try:
        return search(ranking, model.answered, budget_s=1e9, most=most, journal=journal, key="k", clock=lambda: 0.0)
    except CheckFailed as failed:
        return failed.what


@one_folder
@given(
    values=damages, share=st.floats(0, 1), workers=st.integers(2, 9), most=st.none() | st.integers(1, 12),
    random=st.randoms(use_true_random=False),
)  # fmt: skip
def test_any_number_of_workers_finds_the_plan_of_one(
    values: list[int], share: float, workers: int, most: int | None, random: object, tmp_path: Path
) -> None:
    one, several = Watched(values, share, 1), Watched(values, share, workers)
    ranking = one.ranking()
    random.shuffle(ranking)  # type: ignore[attr-defined]
    expected = plan_of(one, tmp_path / "one.json", most, ranking)
    assert plan_of(several, tmp_path / "several.json", most, ranking) == expected
    assert several.consumed == one.consumed
    assert several.workers.most <= workers
    if most is not None:
        assert len(one.consumed) <= most
    if (tmp_path / "one.json").exists():  # what was guessed in vain is in no journal either
        assert (tmp_path / "several.json").read_bytes() == (tmp_path / "one.json").read_bytes()


def test_guesses_save_turns() -> None:
    """Three culprits among two hundred: 7 trials, and whoever can do two at once waits for 4 or 5."""
    model = Watched([100, 90, 80, *[0] * 197], 0.0, 2)
    turns, known = 0, set[Nodes]()
    passed: dict[Nodes, bool] = {}
    while True:
        likely = list(itertools.islice(ahead(lambda: questions(model.ranking()), passed), 2))
        if not likely:
            break
        if likely[0] not in known:
            turns += 1
            known.update(likely)
        passed[likely[0]] = model.evaluate(likely[0], iter(())).status is Status.OK
    assert len(passed) == 7
    assert turns <= 5


@given(values=damages, share=st.floats(0, 1))
def test_what_is_asked_next_is_the_first_guess(values: list[int], share: float) -> None:
    model = Model(named(values), allowed=share * sum(values))
    passed: dict[Nodes, bool] = {}
    asking = questions(model.ranking())
    try:
        asked = next(asking)
        while True:
            if asked.nodes not in passed:  # a set may be asked about again, which costs nobody anything
                assert next(ahead(lambda: questions(model.ranking()), passed)) == asked.nodes
            passed[asked.nodes] = model.passes(asked.nodes)
            asked = asking.send(passed[asked.nodes])
    except StopIteration:
        assert next(ahead(lambda: questions(model.ranking()), passed), None) is None


def test_guesses_end_where_they_are_not_worth_a_trial() -> None:
    ranking = [f"n{number}" for number in range(1000)]
    assert 4 < len(list(ahead(lambda: questions(ranking), {}))) < 200
