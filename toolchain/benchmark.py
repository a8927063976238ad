"""Candidates side by side: one process each, in turns, until the ratios are narrow enough."""

import datetime
import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtimes.registry import available, provider_named
from toolchain import machine
from toolchain.bench_record import Benchmark, Candidate, Row, Setting
from toolchain.errors import BadUsage
from toolchain.progress import SILENT, Progress
from toolchain.samples import Samples
from toolchain.stats import Interval, ratio_of_medians
from toolchain.turns import JobFailed, Turn

_MAX_RUNS_PER_TURN = 1000
_BUSY_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure.

    At least ``min_rounds`` rounds, in each at least ``min_runs`` runs and ``seconds`` a row after
    ``warm_up_s``; then on until each speed-up's interval is within ``precision`` either way, or ``max_time_s`` is
    over."""

    min_rounds: int = 5
    min_runs: int = 10
    seconds: float = 0.15
    warm_up_s: float = 0.05
    precision: float = 0.03
    max_time_s: float = 20.0


class Contestant(Protocol):
    """What takes turns; :class:`toolchain.turns.Turn` is one."""

    def open(self) -> None: ...

    def ask(self, operation: str, **arguments: Any) -> Any: ...

    def close(self) -> None: ...


Outputs = npt.NDArray[np.generic]
Judge = Callable[[Row, Outputs, "tuple[Row, Outputs] | None"], dict[str, Any]]
"""(row, outputs, the baseline and its outputs, None for itself) -> fields of Row: accuracy, parity, status, reason."""


def run(
    candidates: Sequence[Candidate],
    settings: Sequence[Setting],
    samples: Samples,
    *,
    judge: Judge,
    effort: Effort | None = None,
    progress: Progress = SILENT,
    keep: Callable[[Benchmark], None] | None = None,
    start: Callable[..., Contestant] = Turn,
) -> Benchmark:
    """Measure every candidate in every setting; the first candidate that runs in a setting is its baseline.

    A candidate that cannot run becomes a row that says why. Outputs are judged once per provider, at its largest batch.
    ``keep`` is called with the rows so far after each setting, so that an interruption loses one setting at most;
    ``start`` makes a contestant from a job, its spec and ``threads``; tests give a scripted one.
    """
    effort = effort or Effort()
    if (busy := machine.busy_share()) > _BUSY_SHARE:
        progress.warn(f"Other programs use {busy:.0%} of the processor: latencies will be too high, and uneven.")
    here = asdict(machine.describe())
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="nnx-bench-") as folder:
        inputs = {}
        for index, (name, array) in enumerate(samples.inputs.items()):
            inputs[name] = str(Path(folder) / f"input{index}.npy")
            np.save(inputs[name], array)
        for setting in settings:
            judged = setting.batch == max(other.batch for other in settings if other.provider == setting.provider)
            group = _Group(setting, inputs, Path(folder), effort, progress, start)
            rows += group.measure(candidates, judge if judged else None)
            measured = Benchmark(
                machine=here,
                created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                data=samples.source,
                rows=tuple(_with_verdicts(rows)),
            )
            if keep is not None:
                keep(measured)
    return measured


class _Group:
    """All candidates in one setting."""

    def __init__(
        self,
        setting: Setting,
        inputs: dict[str, str],
        folder: Path,
        effort: Effort,
        progress: Progress,
        start: Callable[..., Contestant],
    ) -> None:
        self._setting, self._inputs, self._folder = setting, inputs, folder
        self._effort, self._progress, self._start = effort, progress, start

    def measure(self, candidates: Sequence[Candidate], judge: Judge | None) -> list[Row]:
        rows: dict[str, Row] = {}
        running: dict[str, Contestant] = {}
        title = f"{self._setting.provider}, batch {self._setting.batch}"
        try:
            with self._progress.bar(f"start {title}", len(candidates)) as bar:
                for candidate in candidates:
                    rows[candidate.label] = self._open(candidate, running)
                    bar.advance(row=candidate.label)
            blocks = self._take_turns(running, rows, title)
            baseline = next(iter(running), None)
            judged: list[tuple[Row, Outputs]] = []
            for label, contestant in list(running.items()):
                rows[label] = self._finish(rows[label], blocks, baseline)
                try:
                    rows[label] = replace(rows[label], peak_memory_bytes=contestant.ask("peak_memory_bytes"))
                except JobFailed as failure:
                    rows[label] = replace(rows[label], **_failure(failure))
                    continue
                if judge is not None:
                    rows[label] = self._judge(rows[label], contestant, judge, judged)
        finally:
            for contestant in running.values():
                contestant.close()
        return list(rows.values())

    def _open(self, candidate: Candidate, running: dict[str, Contestant]) -> Row:
        row = Row(candidate=candidate, setting=self._setting)
        provider = provider_named(self._setting.provider)
        if not (there := available(candidate.runtime, provider)):
            return replace(row, status="unavailable", reason=f"{there.why} {there.do}")
        spec = {
            "runtime": candidate.runtime,
            "model": candidate.model,
            "weights": candidate.weights,
            "output": candidate.output,
            "inputs": self._inputs,
            **asdict(self._setting),
        }
        contestant = self._start("bench", spec, threads=self._setting.threads)
        try:
            contestant.open()
            started = contestant.ask("start")
        except JobFailed as failure:
            contestant.close()
            return replace(row, **_failure(failure))
        except BaseException:
            contestant.close()
            raise
        running[candidate.label] = contestant
        return replace(row, **started)

    def _take_turns(
        self, running: dict[str, Contestant], rows: dict[str, Row], title: str
    ) -> dict[str, list[list[float]]]:
        """Rounds in which each row has its turn, in a new random order each; a row that fails drops out."""
        blocks: dict[str, list[list[float]]] = {label: [] for label in running}
        order = random.Random(0)
        effort = self._effort
        started = time.monotonic()
        done, planned = 0, effort.min_rounds
        with self._progress.bar(f"rounds {title}", effort.min_rounds) as bar:
            while running:
                for label in order.sample(list(running), len(running)):
                    try:
                        blocks[label].append(
                            running[label].ask(
                                "turn",
                                min_runs=effort.min_runs,
                                max_runs=_MAX_RUNS_PER_TURN,
                                seconds=effort.seconds,
                                warm_up_s=effort.warm_up_s,
                            )
                        )
                    except JobFailed as failure:
                        running.pop(label).close()
                        rows[label] = replace(rows[label], **_failure(failure))
                done += 1
                bar.advance(int(done <= effort.min_rounds))
                if done == effort.min_rounds:
                    planned = self._rounds_needed(running, blocks)
                if done >= planned or (done >= effort.min_rounds and time.monotonic() - started > effort.max_time_s):
                    break
        return blocks

    def _rounds_needed(self, running: dict[str, Contestant], blocks: dict[str, list[list[float]]]) -> int:
        """How many rounds in all should bring every speed-up's interval within the precision.

        Planned once from the first rounds (Stein 1945) and then kept: stopping at the first look at which the
        interval happens to be narrow would make it cover less often than it says.
        """
        labels = list(running)
        widths = [ratio_of_medians(blocks[labels[0]], blocks[label]).relative_width for label in labels[1:]]
        shrink = max(widths, default=0.0) / self._effort.precision
        return math.ceil(self._effort.min_rounds * max(1.0, shrink) ** 2) if math.isfinite(shrink) else 0

    def _finish(self, row: Row, blocks: dict[str, list[list[float]]], baseline: str | None) -> Row:
        label = row.candidate.label
        speedup: Interval | None = None
        if baseline is not None and baseline != label:
            speedup = ratio_of_medians(blocks[baseline], blocks[label])
        return replace(
            row,
            rounds_ms=tuple(tuple(block) for block in blocks[label]),
            baseline=baseline,
            speedup=speedup,
        )

    def _judge(
        self,
        row: Row,
        contestant: Contestant,
        judge: Judge,
        judged: list[tuple[Row, Outputs]],
    ) -> Row:
        """``judged`` collects the rows and outputs so far, the baseline first."""
        path = self._folder / "outputs.npy"
        try:
            contestant.ask("outputs", path=str(path))
        except JobFailed as failure:
            return replace(row, **_failure(failure))
        outputs = np.load(path)
        judged.append((row, outputs))
        return replace(row, **judge(row, outputs, judged[0] if len(judged) > 1 else None))


def _failure(failure: JobFailed) -> dict[str, Any]:
    status = "unavailable" if failure.kind == "ProviderUnavailable" else "failed"
    return {"status": status, "reason": f"{failure.what} {failure.do}"}


def _with_verdicts(rows: list[Row]) -> list[Row]:
    """Carry accuracy and parity over to the settings in which a candidate was timed but not judged."""
    judged = {(row.candidate.label, row.setting.provider): row for row in rows if row.parity or row.accuracy}
    result = []
    for row in rows:
        source = judged.get((row.candidate.label, row.setting.provider))
        if source is not None and row is not source and row.status == "ok":
            row = replace(
                row,
                accuracy=source.accuracy,
                parity=source.parity,
                status=source.status,
                reason=source.reason,
            )
        result.append(row)
    return result


def settings_for(providers: Sequence[str], batches: Sequence[int], threads: int) -> list[Setting]:
    """Every provider at every batch; raises BadUsage for a number below 1, UnknownProvider for an unknown name."""
    if threads < 1:
        raise BadUsage(f"--threads is {threads}.", "It must be at least 1.")
    if any(batch < 1 for batch in batches):
        raise BadUsage(f"--batch is {','.join(map(str, batches))}.", "Every batch must be at least 1.")
    return [
        Setting(provider=provider_named(name).name, batch=batch, threads=threads)
        for name in dict.fromkeys(providers)
        for batch in dict.fromkeys(batches)
    ]
