"""Candidates side by side: one process each, in turns, until the ratios are narrow enough."""

import datetime
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from runtimes.registry import provider_named
from toolchain import bench_warnings, conditions, machine
from toolchain.bench_group import Effort, Group, Judge, Outputs, Start
from toolchain.bench_record import Benchmark, Candidate, Circumstances, Row, Setting
from toolchain.bench_warnings import Given
from toolchain.progress import SILENT, Progress
from toolchain.samples import Samples
from toolchain.turns import Turn

__all__ = ["Effort", "Extras", "Judge", "Outputs", "run"]
_KEEP_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What else to do than to time each row.

    ``reference`` is the label of the row that speed-ups are over, the first that runs if None. ``noise_floor``
    measures that row once more, ``profile`` says where each row's time goes. ``command`` and ``given`` are what the
    user typed: for the record, and for advice that does not name what was done already.
    """

    reference: str | None = None
    noise_floor: bool = False
    profile: bool = False
    command: tuple[str, ...] = ()
    given: Given = field(default_factory=Given)


def run(
    candidates: Sequence[Candidate],
    settings: Sequence[Setting],
    samples: Samples,
    *,
    judge: Judge,
    effort: Effort | None = None,
    extras: Extras | None = None,
    progress: Progress = SILENT,
    keep: Callable[[Benchmark], None] | None = None,
    start: Start = Turn,
) -> Benchmark:
    """Measure every candidate in every setting; those in the same circumstances take turns and are compared.

    A candidate that cannot run becomes a row that says why. Outputs are judged once per provider, at the largest batch.
    ``keep`` is called with the rows so far, every two seconds at most, so that whatever ends the run loses next to
    nothing; ``start`` makes a contestant from a job, its spec and its limits; tests give a scripted one.
    """
    effort, extras = effort or Effort(), extras or Extras()
    groups = _groups(candidates, settings)
    judged = max(groups, key=lambda circumstances: circumstances.batch)
    with tempfile.TemporaryDirectory(prefix="nnx-bench-") as folder:
        record = _Record(samples.source, effort, extras, keep)
        inputs = _saved(samples, Path(folder))
        for circumstances, entrants in groups.items():
            group = Group(
                circumstances,
                entrants,
                inputs=inputs,
                folder=Path(folder),
                effort=effort,
                progress=progress,
                start=start,
            )
            rows = group.measure(
                judge=judge if circumstances == judged else None,
                reference=extras.reference,
                noise_floor=extras.noise_floor,
                profile=extras.profile,
                seen=record.keep_with,
            )
            record.add(rows)
    return record.finished()


class _Record:
    """The rows so far, and when to write them down."""

    def __init__(self, data: str, effort: Effort, extras: Extras, keep: Callable[[Benchmark], None] | None) -> None:
        self._rows: list[Row] = []
        self._effort = effort
        self._extras, self._keep, self._kept_at = extras, keep, -_KEEP_EVERY_S
        self._busy = machine.busy_share()
        self._times = conditions.processor_times()
        self._so_far = Benchmark(
            machine=asdict(machine.describe()),
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            data=data,
            rows=(),
            command=extras.command,
            effort=asdict(effort),
        )

    def add(self, rows: Sequence[Row]) -> None:
        """The rows of circumstances that are done."""
        self._rows += rows

    def keep_with(self, rows: Sequence[Row]) -> None:
        """What is done, with ``rows`` that are not done yet."""
        if self._keep is not None and time.monotonic() - self._kept_at > _KEEP_EVERY_S:
            self._keep(replace(self._so_far, rows=tuple(_with_verdicts([*self._rows, *rows]))))
            self._kept_at = time.monotonic()

    def finished(self) -> Benchmark:
        rows = _with_verdicts(self._rows)
        spent = [after - before for before, after in zip(self._times, conditions.processor_times(), strict=True)]
        warnings = bench_warnings.warnings(
            rows,
            given=self._extras.given,
            busy=max(self._busy, machine.busy_share()),
            steal=conditions.stolen_share(spent),
            effort=self._effort,
        )
        whole = replace(self._so_far, rows=tuple(rows), warnings=tuple(warnings))
        if self._keep is not None:
            self._keep(whole)
        return whole


def _groups(candidates: Sequence[Candidate], settings: Sequence[Setting]) -> dict[Circumstances, list[Row]]:
    """Empty rows by their circumstances; the providers in their order, on each the candidates in theirs.

    PyTorch runs in nnx's own interpreter, and has no row for a provider that it has no device for, unless nothing else
    has one.
    """
    groups: dict[Circumstances, list[Row]] = {}
    for setting in dict.fromkeys(settings):
        files = [candidate for candidate in candidates if candidate.runtime == "ort"]
        fit = candidates if provider_named(setting.provider).torch_device else files or candidates
        rows = groups.setdefault(setting.circumstances, [])
        for candidate in fit:
            own = setting if candidate.runtime == "ort" else replace(setting, python=None)
            rows.append(Row(candidate=candidate, setting=own))
    return groups


def _saved(samples: Samples, folder: Path) -> dict[str, str]:
    """Each input as an ``.npy`` file that all rows map."""
    inputs = {}
    for index, (name, array) in enumerate(samples.inputs.items()):
        inputs[name] = str(folder / f"input{index}.npy")
        np.save(inputs[name], array)
    return inputs


def _with_verdicts(rows: Sequence[Row]) -> list[Row]:
    """Carry accuracy and parity over to the circumstances in which a candidate was timed but not judged."""
    judged: Mapping[tuple[str, str, str | None], Row] = {
        _place(row): row for row in rows if (row.parity or row.accuracy) and not row.repeats
    }
    result = []
    for row in rows:
        source = judged.get(_place(row))
        if source is not None and row is not source and row.status == "ok" and not row.repeats:
            row = replace(
                row, accuracy=source.accuracy, drop=source.drop, parity=source.parity, status=source.status,
                reason=source.reason,
            )  # fmt: skip
        result.append(row)
    return result


def _place(row: Row) -> tuple[str, str, str | None]:
    return row.candidate.label, row.setting.where, row.setting.python
