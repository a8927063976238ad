"""Which nodes go back to float so that the gate is met: the fewest found, within a budget, resumable.

    ranking ──> grow 0, 1, 2, 4, ... until it passes ──> bisect ──> put nodes back one by one ──> Plan

A set of nodes is only ever answered with when that very set was evaluated and passed: damage need not add up, and a
ranking need not be right. The search picks among many sets by the same samples, which favours lucky ones: ``confirm``
judges the smallest ones once more, by samples that the search did not see.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from exporters.atomic_file import write_text
from toolchain import regular_file
from toolchain.accuracy import gate
from toolchain.accuracy.gate import Verdict, advice_on_samples
from toolchain.accuracy.status import Status
from toolchain.conversion.questions import Nodes, Questions, ahead, questions
from toolchain.conversion.record import Journal, Plan, Trial
from toolchain.errors import BadUsage, CheckFailed, Undecided
from toolchain.progress import SILENT, Progress

Evaluate = Callable[[Nodes, Iterator[Nodes]], Verdict]
"""(The nodes in float, what is likely to be asked next, the most likely first) -> the verdict on them."""


class _BudgetSpent(Exception):
    """The next evaluation would end beyond the budget."""


def search(
    ranking: Sequence[str],
    evaluate: Evaluate,
    *,
    budget_s: float,
    spent_s: float = 0.0,
    most: int | None = None,
    journal: Path,
    key: str,
    confirm: Evaluate | None = None,
    required: bool = True,
    progress: Progress = SILENT,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Find few nodes of ``ranking`` (most damaging first) to leave in float so that the gate passes.

    ``evaluate(excluded, likely)`` quantizes all nodes but those and judges the result; it is called once a set, and a
    set may be all of ``ranking``; what it has judged of ``likely`` already has no say before it is asked for. Every
    verdict goes into ``journal``, so that a search that was killed goes on where it stopped; one that finished, either
    way, removes it. ``key`` is a digest of all that the verdicts depend on, and a journal under another key is
    replaced. The budget is this call's, less the ``spent_s`` that getting ready took: no evaluation begins that would
    outlast it if it took as long as the longest, but the first, and no more than ``most`` begin. ``confirm`` judges by
    samples that the search did not go by: of the sets that passed, the smallest that it passes too is taken.
    ``required`` says whether anybody asked for it to pass. Raises CheckFailed, or Undecided when a verdict met on the
    way is, if no set passes or none within the budget.
    """
    if not budget_s > 0:
        raise BadUsage(f"The budget is {budget_s:g} seconds.", "Give a --budget above 0, such as 10m.")
    trials = _Trials(
        evaluate, budget_s=budget_s - spent_s, most=most, journal=journal, key=key, progress=progress, clock=clock
    )
    finished = True
    try:
        trials.answer(lambda: questions(ranking))
    except _BudgetSpent:
        finished = False
        budget = f"{budget_s:g} s" if trials.time_is_up else f"{most} trials"
        progress.warn(f"The budget of {budget} ended before the search did; run it again to go on.")
    if finished:
        journal.unlink(missing_ok=True)
    passing = [
        nodes for nodes, verdict in trials.verdicts.items() if verdict.status is Status.OK and nodes.issubset(ranking)
    ]
    if not passing:
        raise _nothing_passed(ranking, trials.verdicts, finished, required=required)
    best, verdict = _confirmed(sorted(passing, key=len), trials, confirm, progress)
    return Plan(
        exclude=tuple(name for name in ranking if name in best),
        verdict=verdict.text,
        evaluations=len(trials.verdicts),
        finished=finished,
    )


def _confirmed(
    passing: Sequence[Nodes],
    trials: "_Trials",
    confirm: Evaluate | None,
    progress: Progress,
) -> tuple[Nodes, Verdict]:
    """(The first of ``passing`` that is confirmed, the verdict on it); raise the last one's verdict when none is."""
    for place, nodes in enumerate(passing):
        if confirm is None:
            return nodes, trials.verdicts[nodes]
        verdict = confirm(nodes, iter(passing[place + 1 :]))
        progress.note(f"{len(nodes)} in float, by the other samples: {verdict.brief}")
        if verdict.status is Status.OK or trials.time_is_up:
            break
    gate.require(verdict)
    return nodes, verdict


class _Trials:
    """The verdicts by set of excluded nodes: from the journal, or evaluated now and written there."""

    def __init__(
        self,
        evaluate: Evaluate,
        *,
        budget_s: float,
        most: int | None,
        journal: Path,
        key: str,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._evaluate, self._progress, self._clock = evaluate, progress, clock
        self._journal, self._key = journal, key
        self._ends_at, self._longest_s = clock() + budget_s, 0.0
        self._left = math.inf if most is None else most
        self.verdicts = _read_journal(journal, key)
        if self.verdicts:
            progress.note(f"{len(self.verdicts)} verdicts of an earlier search are in {journal}")

    @property
    def time_is_up(self) -> bool:
        """Whether another evaluation as long as the longest would outlast the budget."""
        return self._clock() + self._longest_s >= self._ends_at

    def answer(self, begin: Callable[[], Questions]) -> None:
        """Answer every question; raises _BudgetSpent when there is no time to."""
        asking = begin()
        with contextlib.suppress(StopIteration):
            asked = next(asking)
            while True:
                asked = asking.send(self._passes(asked.nodes, begin))

    def _passes(self, excluded: Nodes, begin: Callable[[], Questions]) -> bool:
        """Whether the model with ``excluded`` in float passes."""
        if excluded not in self.verdicts:
            if self.verdicts and (self.time_is_up or self._left == 0):
                raise _BudgetSpent
            began = self._clock()
            passed = {nodes: verdict.status is Status.OK for nodes, verdict in self.verdicts.items()}
            verdict = self.verdicts[excluded] = self._evaluate(excluded, ahead(begin, passed))
            self._longest_s = max(self._longest_s, self._clock() - began)
            self._left -= 1
            self._write()
            self._progress.note(f"{len(excluded)} in float: {verdict.brief}")
        return self.verdicts[excluded].status is Status.OK

    def _write(self) -> None:
        trials = [Trial(excluded=tuple(sorted(nodes)), verdict=found) for nodes, found in self.verdicts.items()]
        write_text(self._journal, Journal(key=self._key, trials=tuple(trials)).to_json())


def _read_journal(path: Path, key: str) -> dict[Nodes, Verdict]:
    """What the journal says; nothing when there is none, when it is another search's, or no journal at all."""
    try:
        found = Journal.from_json(regular_file.read_bytes(path))
    except (FileNotFoundError, NotADirectoryError, BadUsage):
        return {}
    return {frozenset(trial.excluded): trial.verdict for trial in found.trials} if found.key == key else {}


def _nothing_passed(
    ranking: Sequence[str], verdicts: Mapping[Nodes, Verdict], finished: bool, *, required: bool
) -> CheckFailed | Undecided:
    """The error about the best that was seen: undecided before failed, then by SQNR."""

    def merit(excluded: Nodes) -> tuple[bool, float, int]:
        verdict = verdicts[excluded]
        noise = verdict.sqnr_db.estimate if verdict.sqnr_db else float("-inf")
        return verdict.status is Status.UNDECIDED, noise, -len(excluded)

    best = max(verdicts, key=merit)
    undecided = verdicts[best].status is Status.UNDECIDED
    most = f", {ranking[0]} being the most damaging" if ranking else ""
    what = f"Of {len(verdicts)} sets of float nodes within the budget none passes{most}"
    if finished:
        unmet = "the requirement is not met" if required else "the model does not agree with the original"
        what = f"Even with all {len(ranking)} ranked nodes in float {unmet}"
    loosen = "Loosen the requirement, or ship fp16 or fp32." if required else "Ship another precision, or the original."
    do = advice_on_samples(verdicts[best]) if undecided else loosen
    if not finished:
        do = f"Give a longer --budget: what was tried is kept. {do}"
    kind = Undecided if undecided else CheckFailed
    return kind(f"{what}; the best has {len(best)} of them in float: {verdicts[best].text}", do)
