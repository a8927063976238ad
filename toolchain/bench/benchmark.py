"""Candidates side by side: one process each, in turns, until the ratios are narrow enough."""

import datetime
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from runtimes.registry import provider_named
from toolchain import machine
from toolchain.bench import cautions, hosts, samples_file
from toolchain.bench.cautions import Given
from toolchain.bench.effort import Effort
from toolchain.bench.group import Group, Start, Verdicts
from toolchain.bench.hosts import Host
from toolchain.bench.judgement import Judge
from toolchain.bench.record import Benchmark, Candidate, Circumstances, Row, Setting, shown_host
from toolchain.inputs.samples import Samples
from toolchain.machine import conditions
from toolchain.processes.turns import Turn
from toolchain.progress import SILENT, Progress

_KEEP_EVERY_S = 2.0
_SHARE_FOR_KEEPING = 0.02


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What else to do than to time each row.

    ``reference`` is the label of the row that speed-ups are over, the first that runs if None. ``noise_floor``
    measures that row once more, ``profile`` says where each row's time goes. ``command`` and ``given`` are what the
    user typed: for the record, and for advice that does not name what was done already; ``warnings`` are put before
    those about the measurement.
    """

    reference: str | None = None
    noise_floor: bool = False
    profile: bool = False
    command: tuple[str, ...] = ()
    given: Given = field(default_factory=Given)
    warnings: tuple[str, ...] = ()


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
    others: Mapping[str, Host] | None = None,
) -> Benchmark:
    """Measure every candidate in every setting; those in the same circumstances take turns and are compared.

    A candidate that cannot run becomes a row that says why. Larger batches come first: what was judged there against
    the same baseline holds for smaller ones, on the same machine. Settings with a host run on that of ``others``, by
    address. ``keep`` is called with the rows so far, every two seconds at most, so
    that whatever ends the run loses next to nothing; ``start`` makes a contestant from a job, its spec and its limits;
    tests give a scripted one.
    """
    effort, extras, others = effort or Effort(), extras or Extras(), others or {}
    groups = _groups(candidates, settings)
    verdicts: dict[str | None, Verdicts] = {}
    with tempfile.TemporaryDirectory(prefix="nnx-bench-") as folder:
        record = _Record(list(groups), samples.source, effort, extras, keep, others)
        inputs = samples_file.write(samples.inputs, Path(folder))
        axes = asdict(samples.axes)
        for circumstances in sorted(groups, key=lambda circumstances: -circumstances.batch):
            group = Group(
                circumstances, groups[circumstances], inputs=inputs, axes=axes, folder=Path(folder), effort=effort,
                progress=progress, start=others[circumstances.host].start if circumstances.host else start,
            )  # fmt: skip
            rows = group.measure(
                judge=judge,
                verdicts=verdicts.setdefault(circumstances.host, {}),
                reference=extras.reference,
                noise_floor=extras.noise_floor,
                profile=extras.profile,
                seen=partial(record.keep, circumstances),
            )
            record.done(circumstances, rows)
    return record.finished()


class _Record:
    """The rows so far, and when to write them down."""

    def __init__(
        self,
        order: Sequence[Circumstances],
        data: str,
        effort: Effort,
        extras: Extras,
        keep: Callable[[Benchmark], None] | None,
        others: Mapping[str, Host],
    ) -> None:
        self._others = others
        self._rows: dict[Circumstances, Sequence[Row]] = dict.fromkeys(order, ())
        self._effort, self._extras, self._keep, self._keep_at = effort, extras, keep, 0.0
        self._busy = machine.busy_share()
        self._times = conditions.processor_times()
        self._so_far = Benchmark(
            machine=asdict(machine.describe()),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            data=data,
            rows=(),
            command=extras.command,
            effort=asdict(effort),
            warnings=extras.warnings,
            complete=False,
            hosts={address: host.machine for address, host in others.items()},
        )

    def done(self, circumstances: Circumstances, rows: Sequence[Row]) -> None:
        """All rows of these circumstances are measured and judged: where they ran it is as hot now as it gets."""
        self._rows[circumstances] = rows
        if circumstances.host is not None:
            self._others[circumstances.host].seen()

    def keep(self, circumstances: Circumstances, rows: Sequence[Row]) -> None:
        """What is done, with ``rows`` that are not done yet; seldom enough to take little time from the rounds."""
        started = time.monotonic()
        if self._keep is not None and started >= self._keep_at:
            self._rows[circumstances] = rows
            self._keep(replace(self._so_far, rows=tuple(self._in_order())))
            spent = time.monotonic() - started
            self._keep_at = started + max(_KEEP_EVERY_S, spent / _SHARE_FOR_KEEPING)

    def finished(self) -> Benchmark:
        rows = self._in_order()
        warnings = [*self._here(rows), *(line for host in self._others.values() for line in self._there(rows, host))]
        warnings += _other_references(rows, self._extras.reference)
        whole = replace(
            self._so_far, rows=tuple(rows), warnings=(*self._extras.warnings, *warnings), complete=True,
            hosts={address: host.machine for address, host in self._others.items()},
        )  # fmt: skip
        if self._keep is not None:
            self._keep(whole)
        return whole

    def _here(self, rows: Sequence[Row]) -> list[str]:
        """What bends the figures of this machine's rows, if there are any."""
        own = [row for row in rows if row.setting.host is None]
        spent = [after - before for before, after in zip(self._times, conditions.processor_times(), strict=True)]
        busy, steal = max(self._busy, machine.busy_share()), conditions.stolen_share(spent)
        given, effort = self._extras.given, self._effort
        return cautions.warnings(own, given=given, busy=busy, steal=steal, effort=effort) if own else []

    def _there(self, rows: Sequence[Row], host: Host) -> list[str]:
        """What bends those of another's."""
        own = [row for row in rows if row.setting.host == host.address]
        before, after = host.seen()
        if host.machine["emulated"]:  # nobody takes its times for a device's
            return []
        name = shown_host(host.address)
        found = cautions.warnings(
            [replace(row, setting=replace(row.setting, host=None)) for row in own], given=self._extras.given,
            busy=max(before.busy, after.busy), steal=hosts.stolen(before, after), effort=self._effort, cores=host.cores,
        )  # fmt: skip
        return [*(f"On {name}: {line}" for line in found), *hosts.warnings(name, before, after)]

    def _in_order(self) -> list[Row]:
        return [row for rows in self._rows.values() for row in rows]


def _other_references(rows: Sequence[Row], wanted: str | None) -> list[str]:
    """Where the row that speed-ups should be over did not run."""
    others = {
        str(row.setting.circumstances): row.baseline
        for row in rows
        if wanted is not None and row.baseline is not None and not row.baseline.startswith(f"{wanted} on ")
    }
    return [f"'{wanted}' did not run at {where}: there speed-ups are over {name}." for where, name in others.items()]


def _groups(candidates: Sequence[Candidate], settings: Sequence[Setting]) -> dict[Circumstances, list[Row]]:
    """Empty rows by their circumstances; the providers in their order, on each the candidates in theirs.

    PyTorch runs in nnx's own interpreter, and has no row on another machine, or for a provider that it has no device
    for, unless nothing else has one.
    """
    groups: dict[Circumstances, list[Row]] = {}
    for setting in dict.fromkeys(settings):
        files = [candidate for candidate in candidates if candidate.runtime == "ort"]
        has_torch = setting.host is None and provider_named(setting.provider).torch_device
        fit = candidates if has_torch else files or candidates
        rows = groups.setdefault(setting.circumstances, [])
        for candidate in fit:
            own = setting if candidate.runtime == "ort" else replace(setting, python=None)
            rows.append(Row(candidate=candidate, setting=own))
    return groups
