"""Which nodes go back to float so that the gate is met: the fewest found, within a budget, resumable.

    ranking ──> grow 0, 1, 2, 4, ... until it passes ──> bisect ──> put nodes back one by one ──> Plan

A set of nodes is only ever answered with when that very set was evaluated and passed: damage need not add up, and a
ranking need not be right. The search picks among many sets by the same samples, which favours lucky ones: ``confirm``
judges the smallest ones once more, by samples that the search did not see.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from exporters.atomic_file import write_text
from exporters.calibration.thresholds import METHODS, Method
from toolchain.accuracy import gate
from toolchain.accuracy.gate import Verdict, advice_on_samples
from toolchain.accuracy.status import Status
from toolchain.errors import BadUsage, CheckFailed, Undecided
from toolchain.progress import SILENT, Progress

Evaluate = Callable[[frozenset[str]], Verdict]
_SCHEMA_VERSION = 1
_PLAN = "nnx-quantization-plan"
_JOURNAL = "nnx-search-journal"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a search found, to be replayed without it.

    ``exclude`` are the nodes that stay in float, most damaging first; ``verdict`` is the gate's sentence about it;
    ``evaluations`` counts the sets that were judged; ``finished`` is false when the budget ended first, so that fewer
    nodes might do. ``methods`` gives a calibration method by tensor, ``options`` what else was chosen.
    """

    exclude: tuple[str, ...]
    verdict: str = ""
    evaluations: int = 0
    finished: bool = True
    methods: Mapping[str, Method] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        content = {"kind": _PLAN, "schema_version": _SCHEMA_VERSION} | asdict(self)
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read what :meth:`to_json` wrote, or a user by hand: ``exclude`` alone will do. BadUsage for anything else."""
        try:
            content: Any = json.loads(text)
        except ValueError as error:
            raise BadUsage(f"The plan is not JSON: {error}.", "Give a plan that nnx printed.") from error
        if not isinstance(content, dict) or content.pop("kind", None) != _PLAN:
            raise BadUsage(f'The file is not a plan: it has no "kind": "{_PLAN}".', "Give a plan that nnx printed.")
        version = content.pop("schema_version", None)
        if version != _SCHEMA_VERSION:
            raise BadUsage(f"The plan has schema version {version}, this nnx reads {_SCHEMA_VERSION}.", "Search again.")
        for name, value in content.items():
            if name not in _FIELDS or not _FIELDS[name](value):
                fault = "has a wrong value" if name in _FIELDS else "is not known"
                raise BadUsage(f"In the plan, '{name}' {fault}.", "Mend it, or search again.")
        if "exclude" not in content:
            raise BadUsage("The plan does not say which nodes to exclude.", 'Add "exclude": [] with their names.')
        content["exclude"] = tuple(content["exclude"])
        return cls(**content)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "exclude": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "verdict": lambda value: isinstance(value, str),
    "evaluations": lambda value: isinstance(value, int),
    "finished": lambda value: isinstance(value, bool),
    "methods": lambda value: isinstance(value, dict) and all(each in METHODS for each in value.values()),
    "options": lambda value: isinstance(value, dict),
}


class _BudgetSpent(Exception):
    """The next evaluation would end beyond the budget."""


def search(
    ranking: Sequence[str],
    evaluate: Evaluate,
    *,
    budget_s: float,
    journal: Path,
    key: str,
    confirm: Evaluate | None = None,
    progress: Progress = SILENT,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Find few nodes of ``ranking`` (most damaging first) to leave in float so that the gate passes.

    ``evaluate(excluded)`` quantizes all nodes but those and judges the result; it is called once a set, and a set
    may be all of ``ranking``. Every verdict goes into ``journal``, so that a search that was killed goes on where it
    stopped; one that finished, either way, removes it. ``key`` is a digest of all that the verdicts depend on, and a
    journal under another key is replaced. The budget is this call's: no evaluation begins that would outlast it if it
    took as long as the longest, but the first. ``confirm`` judges by samples that the search did not go by: of the sets
    that passed, the smallest that it passes too is taken. Raises CheckFailed, or Undecided when a verdict met on the
    way is, if no set passes or none within the budget.
    """
    if not budget_s > 0:
        raise BadUsage(f"The budget is {budget_s:g} seconds.", "Give a --budget above 0, such as 10m.")
    trials = _Trials(evaluate, budget_s=budget_s, journal=journal, key=key, progress=progress, clock=clock)
    finished = True
    try:
        _prune(_shortest_prefix(ranking, trials), trials)
    except _BudgetSpent:
        finished = False
        progress.warn(f"The budget of {budget_s:g} s ended before the search did; run it again to go on.")
    if finished:
        journal.unlink(missing_ok=True)
    passing = [
        nodes for nodes, verdict in trials.verdicts.items() if verdict.status is Status.OK and nodes.issubset(ranking)
    ]
    if not passing:
        raise _nothing_passed(ranking, trials.verdicts, finished)
    best, verdict = _confirmed(sorted(passing, key=len), trials, confirm, progress)
    return Plan(
        exclude=tuple(name for name in ranking if name in best),
        verdict=verdict.text,
        evaluations=len(trials.verdicts),
        finished=finished,
    )


def _confirmed(
    passing: Sequence[frozenset[str]],
    trials: "_Trials",
    confirm: Evaluate | None,
    progress: Progress,
) -> tuple[frozenset[str], Verdict]:
    """(The first of ``passing`` that is confirmed, the verdict on it); raise the last one's verdict when none is."""
    for nodes in passing:
        if confirm is None:
            return nodes, trials.verdicts[nodes]
        verdict = confirm(nodes)
        progress.note(f"{len(nodes)} in float, by the other samples: {verdict.brief}")
        if verdict.status is Status.OK or trials.time_is_up:
            break
    gate.require(verdict)
    return nodes, verdict


def _shortest_prefix(ranking: Sequence[str], trials: "_Trials") -> list[str]:
    """The most damaging nodes that must stay in float, if damage adds up: by doubling, then by bisection."""
    fails, passes = -1, 0
    while not trials.passes(ranking[:passes]):
        if passes == len(ranking):
            return []
        fails, passes = passes, min(max(1, 2 * passes), len(ranking))
    while passes - fails > 1:
        middle = (fails + passes) // 2
        if trials.passes(ranking[:middle]):
            passes = middle
        else:
            fails = middle
    return list(ranking[:passes])


def _prune(excluded: list[str], trials: "_Trials") -> None:
    """Put nodes back to int8, the least damaging first, while the rest still passes.

    One at a time, as most must stay when the ranking is right; each success doubles how many go at once, each failure
    halves it.
    """
    kept, untried, together = set(excluded), excluded[::-1], 1
    while untried:
        block = untried[:together]
        if trials.passes(kept.difference(block)):
            kept.difference_update(block)
            untried, together = untried[len(block) :], 2 * together
        elif len(block) > 1:
            together = len(block) // 2
        else:
            untried = untried[1:]


class _Trials:
    """The verdicts by set of excluded nodes: from the journal, or evaluated now and written there."""

    def __init__(
        self,
        evaluate: Evaluate,
        *,
        budget_s: float,
        journal: Path,
        key: str,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._evaluate, self._progress, self._clock = evaluate, progress, clock
        self._journal, self._key = journal, key
        self._ends_at, self._longest_s = clock() + budget_s, 0.0
        self.verdicts = _read_journal(journal, key)
        if self.verdicts:
            progress.note(f"{len(self.verdicts)} verdicts of an earlier search are in {journal}")

    @property
    def time_is_up(self) -> bool:
        """Whether another evaluation as long as the longest would outlast the budget."""
        return self._clock() + self._longest_s >= self._ends_at

    def passes(self, nodes: Sequence[str] | set[str]) -> bool:
        """Whether the model with ``nodes`` in float passes; raises _BudgetSpent when there is no time to tell."""
        excluded = frozenset(nodes)
        if excluded not in self.verdicts:
            if self.verdicts and self.time_is_up:
                raise _BudgetSpent
            began = self._clock()
            verdict = self.verdicts[excluded] = self._evaluate(excluded)
            self._longest_s = max(self._longest_s, self._clock() - began)
            self._write()
            self._progress.note(f"{len(excluded)} in float: {verdict.brief}")
        return self.verdicts[excluded].status is Status.OK

    def _write(self) -> None:
        trials = [{"excluded": sorted(nodes), "verdict": found.to_dict()} for nodes, found in self.verdicts.items()]
        content = {"kind": _JOURNAL, "schema_version": _SCHEMA_VERSION, "key": self._key, "trials": trials}
        write_text(self._journal, json.dumps(content, indent=1) + "\n")


def _read_journal(path: Path, key: str) -> dict[frozenset[str], Verdict]:
    """What the journal says; nothing when there is none, when it is another search's, or no journal at all."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["kind"], content["schema_version"], content["key"]) != (_JOURNAL, _SCHEMA_VERSION, key):
            return {}
        return {frozenset(trial["excluded"]): Verdict.from_dict(trial["verdict"]) for trial in content["trials"]}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return {}


def _nothing_passed(
    ranking: Sequence[str], verdicts: Mapping[frozenset[str], Verdict], finished: bool
) -> CheckFailed | Undecided:
    """The error about the best that was seen: undecided before failed, then by SQNR."""

    def merit(excluded: frozenset[str]) -> tuple[bool, float, int]:
        verdict = verdicts[excluded]
        noise = verdict.sqnr_db.estimate if verdict.sqnr_db else float("-inf")
        return verdict.status is Status.UNDECIDED, noise, -len(excluded)

    best = max(verdicts, key=merit)
    undecided = verdicts[best].status is Status.UNDECIDED
    what = f"Of {len(verdicts)} sets of float nodes within the budget none passes"
    if finished:
        what = f"Even with all {len(ranking)} ranked nodes in float the requirement is not met"
    do = advice_on_samples(verdicts[best]) if undecided else "Loosen the requirement, or ship fp16 or fp32."
    if not finished:
        do = f"Give a longer --budget: what was tried is kept. {do}"
    kind = Undecided if undecided else CheckFailed
    return kind(f"{what}; the best has {len(best)} of them in float: {verdicts[best].text}", do)
