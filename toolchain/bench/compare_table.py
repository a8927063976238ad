"""A comparison of two benchmarks -> table, notes, markdown, JSON."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from toolchain import strict_json
from toolchain.bench import report
from toolchain.bench.compare import CANNOT_TELL, Change, Comparison
from toolchain.bench.notes import conditions, unsuccessful
from toolchain.bench.record import Row, shown_host
from toolchain.bench.report import NOTHING, Table, accuracy, megabytes, unproven, without_empty
from toolchain.bench.scores import measure_of
from toolchain.stats import Interval, percentile_interval, shown, shown_ratio

SCHEMA_VERSION = 1
HEADINGS = (
    "row", "host", "provider", "batch", "threads", "streams", "old p50 ms", "new p50 ms", "time, new / old", "verdict",
    "accuracy", "size MB", "memory MB",
)  # fmt: skip
_DROPPABLE = ("memory MB", "size MB", "accuracy", "old p50 ms", "new p50 ms")


def table(found: Comparison) -> Table:
    """One line a row that is in both."""
    title = measure_of([change.new for change in found.changes]).title
    return without_empty(
        [title if heading == "accuracy" else heading for heading in HEADINGS],
        [cells(change) for change in found.changes],
        struck=unproven([change.new for change in found.changes]),
        droppable=_DROPPABLE,
    )


def cells(change: Change) -> list[str]:
    """One row of the table under HEADINGS; what is the same in both is said once."""
    old, new = change.old, change.new
    setting = new.setting
    return [
        new.candidate.label,
        shown_host(setting.host),
        setting.where,
        str(setting.batch),
        str(setting.threads),
        str(setting.concurrency),
        _median(old),
        _median(new),
        shown_ratio(change.slowdown) if change.slowdown else NOTHING,
        change.verdict,
        _both(accuracy(old), accuracy(new)),
        _both(*(megabytes(row.candidate.size_bytes) for row in (old, new))),
        _both(*(f"{row.peak_memory_bytes / 1e6:,.0f}" if row.peak_memory_bytes else NOTHING for row in (old, new))),
    ]


def notes(found: Comparison) -> list[str]:
    """The verdicts counted, and what else is not the same."""
    counts = Counter(change.verdict for change in found.changes)
    lines = [f"In both: {_counted(counts)}."]
    if found.machine:
        lines.append(f"Another machine: {_sentence(found.machine)}")
    for side, each in (("old", found.old), ("new", found.new)):
        if not each.complete:
            lines.append(f"The {side} bench was stopped before its end: its rows may not be judged.")
    if found.surroundings:
        lines.append(f"Not the same: {_sentence(found.surroundings)}")
    new = [change.new for change in found.changes]
    lines += [*_of_rows(found), *conditions(new), *unsuccessful(new), *_alone(found, "old one", "new one")]
    if any(change.new.setting.concurrency > 1 for change in found.changes):
        lines.append("Where several streams run, the ratio is of the time per sample, by throughput.")
    lines.append("The two were measured apart; rows that take turns in one `nnx bench` tell smaller differences.")
    return lines


def gate(found: Comparison, *, max_slowdown: float) -> list[str]:
    """What ``nnx bench --baseline`` has compared, row by row with intervals, and what it could not."""
    judged = [(change, change.passes(max_slowdown)) for change in found.changes]
    counts = Counter(said for _, said in judged)
    lines = [f"Against the baseline, with {max_slowdown * 100:g} % allowed: {_counted(counts)}."]
    for change, said in judged:
        ratio = f"{shown_ratio(change.slowdown)} the time, " if change.slowdown else ""
        lines.append(f"{change.name}: {ratio}{said}.")
    if counts[CANNOT_TELL]:
        lines.append("Where it cannot tell, the limit lies inside the interval: measure longer with --max-time.")
    if found.surroundings:
        lines.append(f"Not the same: {_sentence(found.surroundings)}")
    return [*lines, *_alone(found, "baseline", "new one")]


def markdown(found: Comparison) -> str:
    """The table with its notes."""
    return report.markdown(table(found), notes(found))


def to_json(found: Comparison) -> str:
    """Numbers of both, the ratio with its ends, and every difference; without raw samples, which the two files hold."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "old": {"created": found.old.created, "data": found.old.data, "machine": found.old.machine},
        "new": {"created": found.new.created, "data": found.new.data, "machine": found.new.machine},
        "rows": [_json_row(change) for change in found.changes],
        "only_old": found.only_old,
        "only_new": found.only_new,
        "machine": [asdict(difference) for difference in found.machine],
        "surroundings": [asdict(difference) for difference in found.surroundings],
    }
    return json.dumps(strict_json.finite(content), allow_nan=False) + "\n"


def _json_row(change: Change) -> dict[str, Any]:
    return {
        "label": change.new.candidate.label,
        "setting": change.new.setting.written(),
        "verdict": change.verdict,
        "slowdown": _ends(change.slowdown),
        "old": _figures(change.old),
        "new": _figures(change.new),
        "differences": [asdict(difference) for difference in change.differences],
    }


def _figures(row: Row) -> dict[str, Any]:
    return {
        "status": row.status,
        "reason": row.reason,
        "p50_ms": _ends(percentile_interval(row.rounds_ms, 50) if row.rounds_ms else None),
        "throughput_per_s": row.throughput_per_s,
        "accuracy": _ends(row.accuracy),
        **({} if row.metric is None else {"metric": asdict(row.metric)}),
        "size_bytes": row.candidate.size_bytes,
        "peak_memory_bytes": row.peak_memory_bytes,
        "device_memory_bytes": row.device_memory_bytes,
        "sha256": row.candidate.sha256,
    }


def _ends(interval: Interval | None) -> dict[str, float | None] | None:
    return asdict(interval) if interval else None


def _of_rows(found: Comparison) -> list[str]:
    """Differences of single rows, each with its rows; versions that stand among the surroundings are not repeated."""
    said = {str(difference) for difference in found.surroundings}
    rows: dict[str, dict[str, None]] = {}
    for change in found.changes:
        for difference in change.differences:
            if str(difference) not in said:
                rows.setdefault(str(difference), {})[change.new.candidate.label] = None
    return [f"{difference}: {', '.join(labels)}." for difference, labels in rows.items()]


def _counted(verdicts: Counter[str]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())


def _alone(found: Comparison, old: str, new: str) -> list[str]:
    """Rows that are in one of the two alone."""
    places = ((old, found.only_old), (new, found.only_new))
    return [f"Only in the {place}: {'; '.join(rows)}." for place, rows in places if rows]


def _sentence(differences: tuple[object, ...]) -> str:
    return "; ".join(map(str, differences)) + "."


def _median(row: Row) -> str:
    return shown(percentile_interval(row.rounds_ms, 50)) if row.rounds_ms else row.status


def _both(old: str, new: str) -> str:
    return new if old == new else f"{old} → {new}"
