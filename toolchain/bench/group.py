"""The rows of one table in the same circumstances: started, timed in rounds of turns, judged, closed."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from runtimes.registry import available, provider_named
from toolchain import records
from toolchain.accuracy import calls_file
from toolchain.accuracy.status import Status
from toolchain.bench.effort import Effort
from toolchain.bench.judgement import Judge, Judgement, Outputs
from toolchain.bench.record import Circumstances, Profile, Row
from toolchain.processes.turns import JobFailed
from toolchain.progress import Progress
from toolchain.stats import Interval, ratio_of_medians

_MOST_KEPT = 1000
"""Raw latencies kept of a turn, evenly spaced: the median of so many is as good as the round's own drift allows."""
_FEWEST_ROUNDS = 2
"""One round gives no interval."""


class Contestant(Protocol):
    """What takes turns; :class:`toolchain.processes.turns.Turn` is one."""

    def open(self) -> None: ...

    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any: ...

    def close(self) -> None: ...


_FIGURES = ("p50 ms", "speed-up", "runs")
Verdicts = dict[tuple[str, str | None], Judgement]
"""(a row's name, its baseline's) -> what the judge said; neither depends on the batch."""
Expected = dict[str, Outputs]
"""The baseline's name -> its outputs: those of one row are held at a time."""
Start = Callable[..., Contestant]


class _RowFailed(Exception):
    """The row ``name`` failed while another was looked at."""

    def __init__(self, name: str, failure: JobFailed) -> None:
        super().__init__(name)
        self.name, self.failure = name, failure


class Group:
    """``entrants`` are empty rows; ``inputs`` and ``axes`` are the samples, as a row takes them."""

    def __init__(
        self,
        circumstances: Circumstances,
        entrants: Sequence[Row],
        *,
        inputs: Mapping[str, Any],
        axes: Mapping[str, Any],
        folder: Path,
        effort: Effort,
        progress: Progress,
        start: Start,
    ) -> None:
        self._title, self._folder, self._inputs, self._axes = str(circumstances), folder, inputs, axes
        self._effort, self._progress, self._start = effort, progress, start
        self._rows = {row.name: row for row in entrants}
        self._running: dict[str, Contestant] = {}

    def measure(
        self,
        *,
        judge: Judge,
        verdicts: Verdicts,
        reference: str | None,
        noise_floor: bool,
        profile: bool,
        seen: Callable[[Sequence[Row]], None],
    ) -> list[Row]:
        """Time all rows and return them; ``seen`` is called with them after every round.

        What ``verdicts`` holds is not judged again; what is judged here is added to them.
        """
        try:
            with self._progress.bar(f"start {self._title}", len(self._rows)) as bar:
                for name in list(self._rows):
                    self._open(name)
                    bar.advance(row=name)
            if noise_floor and (first := self._baseline(reference)):
                again = replace(self._rows[first], repeats=True)
                self._rows[again.name] = again
                self._open(again.name)
            self._take_turns(reference, seen)
            self._look_closer(judge, verdicts, reference, profile)
        finally:
            for contestant in self._running.values():
                contestant.close()
        return list(self._rows.values())

    def _baseline(self, reference: str | None) -> str | None:
        """The name of the row that speed-ups are over: the first of those that still run."""
        able = [name for name in self._running if not self._rows[name].repeats]
        wanted = [name for name in able if self._rows[name].candidate.label == reference]
        return next(iter(wanted or able), None)

    def _open(self, name: str) -> None:
        row = self._rows[name]
        candidate, setting = row.candidate, row.setting
        provider = provider_named(setting.provider)
        if setting.host is None and setting.python is None and not (there := available(candidate.runtime, provider)):
            self._change(name, status=Status.UNAVAILABLE, reason=f"{there.why} {there.do}")
            return
        spec = {
            "runtime": candidate.runtime,
            "model": candidate.model,
            "precision": candidate.precision,
            "weights": candidate.weights,
            "outputs": candidate.outputs,
            "inputs": dict(self._inputs),
            "axes": dict(self._axes),
            "provider": setting.provider,
            "options": dict(setting.options),
            "batch": setting.batch,
            "threads": setting.threads,
            "concurrency": setting.concurrency,
            "copies": setting.copies == "include",
        }
        try:
            self._running[name] = contestant = self._start(
                "toolchain.bench.row", spec, threads=setting.threads, cpus=setting.cpus, python=setting.python,
                timeout_s=self._effort.timeout_s,
            )  # fmt: skip
            contestant.open()
            self._change(name, **contestant.ask("start"))
        except JobFailed as failure:
            self._drop(name, failure)

    def _take_turns(self, reference: str | None, seen: Callable[[Sequence[Row]], None]) -> None:
        """Rounds in which each row has its turn, in a new random order each; a row that fails drops out."""
        self._effort = effort = self._effort.for_rows(len(self._running))
        order, started, done, planned = random.Random(0), time.monotonic(), 0, effort.min_rounds
        with self._progress.board(self._title, _FIGURES, list(self._running)) as board:
            while self._running:
                for name in order.sample(list(self._running), len(self._running)):
                    self._turn(name)
                done += 1
                self._compare(reference)
                if done >= planned:
                    planned = self._rounds_needed(done)
                spent = time.monotonic() - started
                last = min(planned, max(_FEWEST_ROUNDS, int(effort.max_time_s / spent * done))) if spent else planned
                for name in self._running:
                    board.fill(name, *_figures(self._rows[name]))
                board.advance(done, last, spent / done * (last - done))
                seen(list(self._rows.values()))
                if done >= last:
                    break

    def _turn(self, name: str) -> None:
        effort, row = self._effort, self._rows[name]
        try:
            turn = self._running[name].ask(
                "turn",
                extra_s=effort.seconds + effort.warm_up_s,
                min_runs=effort.min_runs,
                most_kept=_MOST_KEPT,
                seconds=effort.seconds,
                warm_up_s=effort.warm_up_s,
            )
        except JobFailed as failure:
            self._drop(name, failure)
        else:
            self._change(
                name,
                rounds_ms=(*row.rounds_ms, tuple(turn["runs_ms"])),
                rounds_s=(*row.rounds_s, turn["seconds"]),
                rounds_runs=(*row.rounds_runs, turn["runs"]),
            )

    def _compare(self, reference: str | None) -> None:
        """Give every row that runs its baseline and its speed-up over it."""
        baseline = self._baseline(reference)
        for name in self._running:
            faster = None
            if baseline is not None and name != baseline:
                faster = speedup(self._rows[baseline], self._rows[name])
            self._change(name, baseline=baseline, speedup=faster)

    def _rounds_needed(self, done: int) -> int:
        """How many rounds in all should bring every speed-up's interval within the precision.

        Planned from the first rounds (Stein 1945), and again when those are done and it is still too wide: stopping at
        the first look at which the interval happens to be narrow would make it cover less often than it says. Planned
        once, a run misses the precision in 13 % of cases at 3 % noise; again, in next to none, for 0.4 points of cover.
        """
        ratios = [self._rows[name].speedup for name in self._running]
        widths = [ratio.relative_width for ratio in ratios if ratio is not None]
        shrink = max(widths, default=0.0) / self._effort.precision
        return math.ceil(done * max(1.0, shrink) ** 2) if math.isfinite(shrink) else done

    def _look_closer(self, judge: Judge, verdicts: Verdicts, reference: str | None, profile: bool) -> None:
        """What is asked of each row once it is timed, the baseline first: its memory, its outputs, where its time goes.

        When the baseline fails here, another takes its place, and all are judged against that one.
        """
        seen: set[str] = set()
        expected: Expected = {}
        while waiting := [name for name in self._running if name not in seen]:
            name = min(waiting, key=lambda name: name != self._rows[name].baseline)
            try:
                self._change(name, **self._running[name].ask("memory"))
                if not self._rows[name].repeats:
                    self._judge(name, judge, verdicts, expected)
            except _RowFailed as failed:
                self._drop(failed.name, failed.failure)
            except JobFailed as failure:
                self._drop(name, failure)
            else:
                seen.add(name)
                if profile and not self._rows[name].repeats:
                    self._change(name, **_profiled(self._rows[name], self._running[name]))
                continue
            before = {self._rows[name].baseline for name in self._running}
            self._compare(reference)
            if before != {self._rows[name].baseline for name in self._running}:
                seen.clear()

    def _judge(self, name: str, judge: Judge, verdicts: Verdicts, expected: "Expected") -> None:
        row = self._rows[name]
        key = (name, row.baseline)
        if key not in verdicts:
            baseline = row.baseline
            if baseline is not None and baseline not in expected:
                expected.clear()
                expected[baseline] = self._outputs(baseline)
            if baseline is None or name == baseline:
                verdicts[key] = judge(row, expected[name], None)
            else:
                verdicts[key] = judge(row, self._outputs(name), (self._rows[baseline], expected[baseline]))
        self._rows[name] = verdicts[key].on(self._rows[name])

    def _outputs(self, name: str) -> Outputs:
        """Left in a file, of which there are two: the baseline's are read again for each other row."""
        path = self._folder / ("baseline.npz" if name == self._rows[name].baseline else "outputs.npz")
        try:
            self._running[name].ask("outputs", path=str(path))
        except JobFailed as failure:
            raise _RowFailed(name, failure) from failure
        return calls_file.read(path)

    def _drop(self, name: str, failure: JobFailed) -> None:
        """The row failed: what it measured so far is not kept, for its turns were not all taken."""
        if (contestant := self._running.pop(name, None)) is not None:  # else it could not even be started
            contestant.close()
        self._change(
            name, rounds_ms=(), rounds_s=(), rounds_runs=(), baseline=None, speedup=None, **_failure(failure)
        )  # fmt: skip

    def _change(self, name: str, **fields: Any) -> None:
        self._rows[name] = replace(self._rows[name], **fields)


def speedup(baseline: Row, row: Row) -> Interval:
    """How many times faster ``row`` is: in latency, or in throughput where several streams run."""
    if row.setting.concurrency > 1:
        return ratio_of_medians(*([[value] for value in each.rounds_per_s] for each in (row, baseline)))
    return ratio_of_medians(baseline.rounds_ms, row.rounds_ms)


def _figures(row: Row) -> tuple[str, ...]:
    """What the board shows of a row while its rounds go."""
    median = row.latency_ms(50)
    ratio = f"{row.speedup.estimate:.2f}x" if row.speedup else "1"
    return "–" if median is None else f"{median:.3g}", ratio, f"{row.runs:,}"


def _profiled(row: Row, contestant: Contestant) -> dict[str, Any]:
    """The row's profile, or why there is none among its facts: its times stand without."""
    try:
        return {"profile": records.made(Profile, contestant.ask("profile", latency_ms=row.latency_ms(50)))}
    except JobFailed as failure:
        return {"facts": {**row.facts, "profile": f"none: {failure.what}"}}


def _failure(failure: JobFailed) -> dict[str, Any]:
    status = Status.UNAVAILABLE if failure.kind == "ProviderUnavailable" else Status.FAILED
    return {"status": status, "reason": f"{failure.what} {failure.do}"}
