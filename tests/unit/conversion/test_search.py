import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolchain.accuracy.gate import Verdict
from toolchain.accuracy.status import Status
from toolchain.conversion.record import Plan
from toolchain.conversion.search import search
from toolchain.errors import BadUsage, CheckFailed, Undecided
from toolchain.progress import Progress
from toolchain.stats import Interval

LONG_S = 1e6
damages = st.lists(st.integers(0, 20), min_size=1, max_size=24)
# each example deletes the journal first; every evaluation flushes it to disk, which is what takes the time
one_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Model:
    """A model whose nodes each do some damage when quantized; passes when at most ``allowed`` is left.

    ``undoing`` names sets whose exclusion makes things worse again, as where two errors cancelled. Each evaluation
    takes ``takes_s`` by its clock; after ``killed_after`` of them the next is interrupted.
    """

    def __init__(
        self,
        damage: dict[str, float],
        allowed: float,
        *,
        undoing: Callable[[frozenset[str]], bool] = lambda excluded: False,
        otherwise: Status = Status.UNPROVEN,
        takes_s: float = 1.0,
        killed_after: int | None = None,
    ) -> None:
        self.damage, self.allowed, self.undoing, self.otherwise = damage, allowed, undoing, otherwise
        self.takes_s, self.killed_after = takes_s, killed_after
        self.now, self.evaluated = 0.0, list[frozenset[str]]()

    def passes(self, excluded: frozenset[str]) -> bool:
        left = sum(self.damage.values()) - sum(self.damage[name] for name in excluded)
        return left <= self.allowed and not self.undoing(excluded)

    def evaluate(self, excluded: frozenset[str], likely: Iterator[frozenset[str]]) -> Verdict:
        del likely  # it judges one after the other
        if len(self.evaluated) == self.killed_after:
            raise KeyboardInterrupt
        self.now += self.takes_s
        self.evaluated.append(excluded)
        left = sum(self.damage.values()) - sum(self.damage[name] for name in excluded)
        status = Status.OK if self.passes(excluded) else self.otherwise
        needed = 900 if status is Status.UNDECIDED else None
        noise = Interval(-left, -left - 1, -left + 1)
        return Verdict(status=status, text=f"damage {left:g}.", samples=100, sqnr_db=noise, samples_needed=needed)

    def ranking(self) -> list[str]:
        return sorted(self.damage, key=lambda name: -self.damage[name])


def named(values: list[int]) -> dict[str, float]:
    return {f"n{index}": float(value) for index, value in enumerate(values)}


def run(
    model: Model, journal: Path, *, ranking: list[str] | None = None, budget_s: float = LONG_S, key: str = "k"
) -> Plan:
    return search(
        model.ranking() if ranking is None else ranking, model.evaluate,
        budget_s=budget_s, journal=journal, key=key, clock=lambda: model.now,
    )  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "search.json"


@one_folder
@given(values=damages, share=st.floats(0, 1))
def test_where_damage_adds_up_no_smaller_set_would_do(values: list[int], share: float, journal: Path) -> None:
    journal.unlink(missing_ok=True)
    model = Model(named(values), allowed=share * sum(values))
    plan = run(model, journal)
    assert plan.finished
    assert model.passes(frozenset(plan.exclude))
    fewest = next(k for k in range(len(values) + 1) if model.passes(frozenset(model.ranking()[:k])))
    assert len(plan.exclude) == fewest
    assert plan.evaluations == len(model.evaluated) == len(set(model.evaluated))


@one_folder
@given(values=damages, share=st.floats(0, 1), random=st.randoms(use_true_random=False))
def test_with_a_wrong_ranking_no_node_could_go_back_alone(
    values: list[int], share: float, random: object, journal: Path
) -> None:
    journal.unlink(missing_ok=True)
    model = Model(named(values), allowed=share * sum(values))
    ranking = model.ranking()
    random.shuffle(ranking)  # type: ignore[attr-defined]
    plan = run(model, journal, ranking=ranking)
    kept = frozenset(plan.exclude)
    assert model.passes(kept)
    assert not any(model.passes(kept - {name}) for name in kept)
    assert list(plan.exclude) == [name for name in ranking if name in kept]


@one_folder
@given(values=damages, share=st.floats(0, 1), salt=st.integers(0, 99))
def test_where_damage_does_not_add_up_the_answer_was_evaluated_and_passed(
    values: list[int], share: float, salt: int, journal: Path
) -> None:
    journal.unlink(missing_ok=True)

    def undoing(excluded: frozenset[str]) -> bool:
        return len(excluded) < len(values) and (sum(int(name[1:]) for name in excluded) * 7 + salt) % 3 == 0

    model = Model(named(values), allowed=share * sum(values), undoing=undoing)
    plan = run(model, journal)
    assert frozenset(plan.exclude) in model.evaluated
    assert model.passes(frozenset(plan.exclude))
    assert plan.verdict == f"damage {sum(values) - sum(model.damage[name] for name in plan.exclude):g}."


@one_folder
@given(values=damages, share=st.floats(0, 1), kill=st.integers(0, 30))
def test_a_killed_search_goes_on_where_it_stopped(values: list[int], share: float, kill: int, journal: Path) -> None:
    journal.unlink(missing_ok=True)
    whole = Model(named(values), allowed=share * sum(values))
    expected = run(whole, journal)
    assert not journal.exists()  # nothing is left to go on with
    first, second = (replace_kill(whole, after) for after in (kill % len(whole.evaluated), None))
    with pytest.raises(KeyboardInterrupt):
        run(first, journal)
    assert run(second, journal) == expected
    assert first.evaluated + second.evaluated == whole.evaluated


def replace_kill(model: Model, after: int | None) -> Model:
    return Model(model.damage, model.allowed, killed_after=after)


def test_few_evaluations_find_three_culprits_among_two_hundred(journal: Path) -> None:
    model = Model(named([100, 90, 80, *[0] * 197]), allowed=0)
    plan = run(model, journal)
    assert plan.exclude == ("n0", "n1", "n2")
    assert len(model.evaluated) == 7  # 0, 1, 2, 4, 3 in float; then n1 back, n0 back: both are needed


def test_many_innocent_nodes_go_back_in_few_evaluations(journal: Path) -> None:
    model = Model(named([*[0] * 63, 50]), allowed=0)
    plan = run(model, journal, ranking=list(model.damage))
    assert plan.exclude == ("n63",)
    assert len(model.evaluated) < 25


def test_nothing_is_excluded_when_plain_int8_passes(journal: Path) -> None:
    model = Model(named([3, 1]), allowed=10)
    assert run(model, journal) == Plan(exclude=(), verdict="damage 4.", evaluations=1, finished=True)


def test_a_journal_of_another_search_is_replaced(journal: Path) -> None:
    for key in ("old weights", "new weights"):
        model = Model(named([5, 1]), allowed=1, killed_after=1)
        with pytest.raises(KeyboardInterrupt):
            run(model, journal, key=key)
        assert len(model.evaluated) == 1
        content = json.loads(journal.read_text(encoding="utf-8"))
        assert (content["key"], len(content["trials"])) == (key, 1)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "nnx-search-journal"}', "\xff\x00"])
def test_a_journal_that_is_none_is_replaced(content: str, journal: Path) -> None:
    journal.write_bytes(content.encode("latin-1"))
    model = Model(named([5, 1]), allowed=1)
    assert run(model, journal).exclude == ("n0",)
    assert len(model.evaluated) == 2


def test_verdicts_about_nodes_that_are_not_ranked_are_not_the_answer(journal: Path) -> None:
    damage = named([5, 4, 3])
    with pytest.raises(KeyboardInterrupt):
        run(Model(damage, allowed=3, killed_after=3), journal)  # n0 and n1 have passed
    plan = run(Model(damage, allowed=7), journal, ranking=["n1", "n2"])
    assert plan.exclude == ("n1", "n2")


def test_at_the_end_of_the_budget_the_best_so_far_is_returned(journal: Path) -> None:
    notes = Notes()
    values = [9, 8, 7, 6, 5, 4, 3, 2]
    model = Model(named(values), allowed=9, takes_s=10)  # 5 of 8 are needed: 0, 1, 2, 4 fail
    plan = search(
        model.ranking(), model.evaluate,
        budget_s=55, journal=journal, key="k", progress=notes, clock=lambda: model.now,
    )  # fmt: skip
    assert model.now == 50  # a sixth evaluation would have ended at 60
    assert plan == Plan(exclude=tuple(model.ranking()), verdict="damage 0.", evaluations=5, finished=False)
    assert any("budget" in warning for warning in notes.warnings)
    assert len(notes.lines) == 5
    later = run(Model(model.damage, 9), journal)
    assert later.finished
    assert later.exclude == tuple(model.ranking()[:5])


def test_what_getting_ready_took_is_of_the_budget_that_was_given(journal: Path) -> None:
    notes = Notes()
    model = Model(named([9, 8]), allowed=9, takes_s=10)
    with pytest.raises(CheckFailed, match="within the budget"):
        search(
            model.ranking(), model.evaluate,
            budget_s=60, spent_s=70, journal=journal, key="k", progress=notes, clock=lambda: model.now,
        )  # fmt: skip
    assert model.now == 10
    assert notes.warnings == ["The budget of 60 s ended before the search did; run it again to go on."]


class Notes(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines, self.warnings = list[str](), list[str]()

    def note(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_one_evaluation_is_made_however_small_the_budget(journal: Path) -> None:
    model = Model(named([1]), allowed=1, takes_s=100)
    assert run(model, journal, budget_s=0.001).exclude == ()


def test_a_budget_that_ends_before_anything_passed_fails_with_the_best_seen(journal: Path) -> None:
    model = Model(named([9] * 16), allowed=0, takes_s=10)
    with pytest.raises(
        CheckFailed, match=r"none passes, n0 being the most damaging; the best has 2 of them in float: damage 126\."
    ) as caught:
        run(model, journal, budget_s=35)
    assert "longer --budget" in caught.value.do


def test_failing_with_everything_in_float_is_said(journal: Path) -> None:
    model = Model(named([5, 1, 1]), allowed=-1)
    with pytest.raises(CheckFailed, match="Even with all 3 ranked nodes in float"):
        run(model, journal)
    assert model.evaluated[-1] == frozenset(model.damage)


def test_an_undecided_search_asks_for_samples(journal: Path) -> None:
    model = Model(named([5, 1, 1]), allowed=-1, otherwise=Status.UNDECIDED)
    with pytest.raises(Undecided, match="Even with all 3") as caught:
        run(model, journal)
    assert "about 900 samples" in caught.value.do


@pytest.mark.parametrize("budget_s", [0, -1, float("nan")])
def test_a_budget_of_nothing_is_refused(budget_s: float, journal: Path) -> None:
    with pytest.raises(BadUsage, match="The budget is"):
        run(Model(named([1]), allowed=1), journal, budget_s=budget_s)


FULL = Plan(
    exclude=("/conv1/Conv", "/fc/Gemm"), verdict="It passes.", evaluations=7, finished=False,
    methods={"relu_1": "mse"}, options={"bias_correction": True},
)  # fmt: skip


@pytest.mark.parametrize("plan", [FULL, replace(FULL, exclude=(), methods={}, options={})])
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_written_by_hand_needs_only_its_nodes() -> None:
    text = '{"kind": "nnx-quantization-plan", "schema_version": 1, "exclude": ["a"]}'
    assert Plan.from_json(text) == Plan(exclude=("a",))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("exclude: [a]", r"no JSON \(line 1, column 1\)"),
        ("[]", "not a plan"),
        ('{"exclude": []}', "not a plan"),
        ('{"kind": "nnx-quantization-plan", "schema_version": 2, "exclude": []}', "schema version 2"),
        ('{"kind": "nnx-quantization-plan", "schema_version": 1}', "a plan: exclude is missing"),
        ('{"kind": "nnx-quantization-plan", "schema_version": 1, "exclude": "a"}', 'a plan: exclude is "a"'),
        ('{"kind": "nnx-quantization-plan", "schema_version": 1, "exclude": [1]}', r"a plan: exclude\[0\] is 1"),
        (
            '{"kind": "nnx-quantization-plan", "schema_version": 1, "exclude": [], "methods": {"a": 1}}',
            "a plan: methods.a is 1",
        ),
        (
            '{"kind": "nnx-quantization-plan", "schema_version": 1, "exclude": [], "exlude": []}',
            "a plan: exlude is not known",
        ),
    ],
)
def test_a_bad_plan_gets_one_clear_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadUsage, match=sentence) as caught:
        Plan.from_json(text)
    assert "\n" not in caught.value.what
