"""The lines under a benchmark's table: the verdict, the conditions, what went wrong, warnings."""

from collections.abc import Collection, Sequence

from toolchain.accuracy.status import Status
from toolchain.bench import hosts
from toolchain.bench.figures import efficient, is_proven
from toolchain.bench.leader import called, fastest, level_with, titled
from toolchain.bench.record import LOCAL, Benchmark, Circumstances, Row, shown_host
from toolchain.bench.scores import measure_of
from toolchain.legible import shapes_in_words

_NAMED = 5
_HALVES = ("fp16", "bf16")
UNFINISHED = "This bench was stopped before its end: rows have not all their rounds, and may not be judged."
EFFICIENT = "◆"
"""Marks a row of the Pareto set."""


def verdict(rows: Sequence[Row]) -> list[str]:
    """For each circumstances: which row is the fastest, and which of the others it is not surely ahead of."""
    lines = []
    for circumstances in dict.fromkeys(row.setting.circumstances for row in rows):
        together = [row for row in rows if row.setting.circumstances == circumstances]
        best = fastest(together)
        if best is None or sum(map(is_proven, together)) < 2:
            continue
        level = [called(row, rows) for row in level_with(best, together)]
        line = f"{titled(circumstances, rows)}: the fastest is {called(best, rows)}"
        lines.append(line + (f", not clearly ahead of {_listed(level)}." if level else "."))
    return lines


def _listed(names: Collection[str], separator: str = ", ") -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return separator.join(list(names)[:_NAMED]) + more


def unsuccessful(rows: Sequence[Row]) -> list[str]:
    """Each row that is not ok and why, the same reason once; and where, unless that is everywhere the row stands."""
    everywhere: dict[str, set[Circumstances]] = {}
    wrong: dict[tuple[str, str, str], dict[Circumstances, None]] = {}
    for row in rows:
        everywhere.setdefault(row.name, set()).add(row.setting.circumstances)
        if row.status is not Status.OK:
            wrong.setdefault((row.name, row.status, row.reason), {})[row.setting.circumstances] = None
    return [
        f"{name}{'' if set(places) == everywhere[name] else _at(places)}: {status}. {reason}"
        for (name, status, reason), places in wrong.items()
    ]


def _at(places: Collection[Circumstances]) -> str:
    return f" at {_listed([str(place) for place in places], '; ')}"


def notes(benchmark: Benchmark) -> list[str]:
    """Everything worth a line under the table."""
    rows = benchmark.rows
    return [
        *([] if benchmark.complete else [UNFINISHED]),
        *_baselines(rows),
        *verdict(rows),
        *_legend(rows),
        *conditions(rows),
        *_machines(benchmark),
        *_emulated(rows),
        *_shapes(rows),
        *_backends(rows),
        *_half_precision(rows),
        *unsuccessful(rows),
        *benchmark.warnings,
    ]


def _baselines(rows: Sequence[Row]) -> list[str]:
    """What the speed-ups are over, said once."""
    over = {row.setting.circumstances: row.baseline for row in rows if row.speedup and row.baseline}
    if len(names := dict.fromkeys(over.values())) > 1:
        return [f"Speed-ups are over {', '.join(f'{name} ({where})' for where, name in over.items())}."]
    own = " of the same host" if len({where.host for where in over}) > 1 else ""
    return [f"Speed-ups are over {name}{own}, with 95 % intervals." for name in names]


def _legend(rows: Sequence[Row]) -> list[str]:
    if not efficient(rows):
        return []
    axes = f"{measure_of(rows).title}, latency and size" if any(row.accuracy for row in rows) else "latency and size"
    return [f"{EFFICIENT} of {axes}, no other row beside it is surely better in one and surely worse in none."]


def conditions(rows: Sequence[Row]) -> list[str]:
    """What all rows that ran had in common and no column tells."""
    settings = [row.setting for row in rows if row.rounds_ms]
    threads, streams = ({setting.threads for setting in settings}, {setting.concurrency for setting in settings})
    parts = [f"{count} thread{'s' if count > 1 else ''}" for count in threads if len(threads) == 1]
    parts += [f"{count} streams" for count in streams if len(streams) == 1 and count > 1]
    if len(pins := {setting.cpus for setting in settings}) == 1 and (cpus := pins.pop()):
        parts.append(f"pinned to processors {', '.join(map(str, cpus))}")
    if len(places := {setting.host for setting in settings}) == 1 and (host := places.pop()):
        parts.insert(0, f"on {shown_host(host)}")
    if settings and all(setting.copies == "exclude" for setting in settings):
        parts.append("copies to and from a device not timed")
    return [f"Each row: {', '.join(parts)}."] if parts else []


def _machines(benchmark: Benchmark) -> list[str]:
    """What ran where, if not all of it here."""
    if not benchmark.hosts:
        return []
    here = (
        [hosts.described(LOCAL, benchmark.machine)] if any(row.setting.host is None for row in benchmark.rows) else []
    )
    return [*here, *(hosts.described(shown_host(host), facts) for host, facts in benchmark.hosts.items())]


def _emulated(rows: Sequence[Row]) -> list[str]:
    """The machines whose times are no machine's."""
    found = {row.setting.host: row.emulated for row in rows if row.emulated}
    return [
        f"{shown_host(host)} is emulated, {kinds}: what its rows answer counts, how fast they are says nothing about a "
        "device, and none is called the fastest."
        for host, kinds in found.items()
    ]


def _shapes(rows: Sequence[Row]) -> list[str]:
    """What a run was fed with at each batch: a model of open height and width is fast at 16 x 16."""
    runs = {f"batch {row.setting.batch}": shapes_in_words(row.shapes) for row in rows if row.rounds_ms and row.shapes}
    return [f"Inputs of a run: {'; '.join(f'{batch}: {shapes}' for batch, shapes in runs.items())}."] if runs else []


def _backends(rows: Sequence[Row]) -> list[str]:
    """What changes a row's speed without standing in its name: the backend's modes, another interpreter."""
    lines = []
    for fact, title in (("tf32", "TF32"), ("cuda graphs", "CUDA graphs")):
        modes: dict[str, dict[str, None]] = {}
        for row in rows:
            if row.rounds_ms and fact in row.facts:
                modes.setdefault(row.facts[fact], {})[called(row, rows)] = None
        if modes:
            lines.append(f"{title}: " + "; ".join(f"{mode} in {_listed(names)}" for mode, names in modes.items()) + ".")
    elsewhere = {row.setting.where: row.setting.python for row in rows if row.setting.python and row.rounds_ms}
    return [*lines, *(f"{where} ran in {python}." for where, python in elsewhere.items())]


def _half_precision(rows: Sequence[Row]) -> list[str]:
    """What a row in half the bits on a CPU is in truth: as its profile found, or else what it may be."""
    halves = [
        row
        for row in rows
        if row.candidate.precision in _HALVES and row.setting.provider == "cpu" and row.rounds_ms and not row.repeats
    ]
    found = [row.profile.advice for row in halves if row.profile and "is computed in fp32" in row.profile.advice]
    unknown = [
        f"{row.candidate.precision} on a CPU may be computed in fp32 with casts around it: --profile shows whether."
        for row in halves
        if row.profile is None
    ]
    return list(dict.fromkeys([*found, *unknown]))
