"""What is printed of a benchmark: table, notes, markdown, CSV, and the schema of its JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from toolchain.accuracy.status import Status
from toolchain.bench.csv_file import to_csv
from toolchain.bench.figures import efficient, provider_share, throughput
from toolchain.bench.notes import EFFICIENT, notes
from toolchain.bench.record import Row, schema, shown_host
from toolchain.bench.scores import measure_of, score
from toolchain.legible import in_markdown, in_markdown_cell
from toolchain.stats import percentile_interval, shown, shown_ratio

__all__ = [
    "HEADINGS", "NOTHING", "Table", "accuracy", "cells", "headings", "markdown", "markdown_table", "megabytes",
    "notes", "schema", "speedup", "table", "to_csv", "unproven", "without_empty",
]  # fmt: skip

HEADINGS = (
    "row", "host", "provider", "batch", "threads", "streams", "p50 ms", "p90 ms", "p99 ms", "samples/s", "speed-up",
    "accuracy", "size MB", "memory MB", "device MB", "on provider", "load ms", "first run ms",
)  # fmt: skip
"""Of :func:`cells`; :func:`table` leaves out those that have nothing to tell, and calls accuracy by the metric."""
_ACCURACY = HEADINGS.index("accuracy")

_DROPPABLE = (
    "load ms", "p90 ms", "memory MB", "first run ms", "device MB", "p99 ms", "on provider", "samples/s", "size MB"
)  # fmt: skip
_WHERE_THEY_DIFFER = ("host", "threads", "streams")
NOTHING = "–"
"""In a cell that has nothing to say."""
_RUNS_FOR_P99 = 100


@dataclass(frozen=True)
class Table:
    """What is printed: ``struck`` lines are unproven, ``droppable`` headings go first where it is narrow."""

    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    struck: frozenset[int]
    droppable: tuple[str, ...]


def table(rows: Sequence[Row]) -> Table:
    """One line a row; rows that no other surely beats are marked, columns in which nothing stands are left out."""
    marked = efficient(rows)
    lines = [cells(row) for row in rows]
    for index, line in enumerate(lines):
        line[0] += f" {EFFICIENT}" if index in marked else ""
    return without_empty(headings(rows), lines, struck=unproven(rows), droppable=_DROPPABLE)


def headings(rows: Sequence[Row]) -> tuple[str, ...]:
    """HEADINGS as these rows' metric has them."""
    return (*HEADINGS[:_ACCURACY], measure_of(rows).title, *HEADINGS[_ACCURACY + 1 :])


def without_empty(
    headings: Sequence[str], lines: Sequence[Sequence[str]], *, struck: frozenset[int], droppable: Sequence[str]
) -> Table:
    """Without the columns in which nothing stands, and those of a setting that all rows share."""
    columns = [
        index
        for index, heading in enumerate(headings)
        if (values := {line[index] for line in lines}) != {NOTHING}
        and (heading not in _WHERE_THEY_DIFFER or len(values) > 1)
    ]
    kept = tuple(headings[index] for index in columns)
    return Table(
        headings=kept,
        lines=tuple(tuple(line[index] for index in columns) for line in lines),
        struck=struck,
        droppable=tuple(name for name in droppable if name in kept),
    )


def unproven(rows: Sequence[Row]) -> frozenset[int]:
    """The places of the rows to strike through."""
    return frozenset(index for index, row in enumerate(rows) if row.status is Status.UNPROVEN)


def cells(row: Row) -> list[str]:
    """One row of the table under HEADINGS; a row that did not run says so instead of a latency."""
    setting = row.setting
    start = [
        row.candidate.label + (" again" if row.repeats else ""),
        shown_host(setting.host) + (" (emulated)" if row.emulated else ""),
        setting.where, str(setting.batch), str(setting.threads), str(setting.concurrency),
    ]  # fmt: skip
    if not row.rounds_ms:
        return [*start, row.status, *[NOTHING] * (len(HEADINGS) - len(start) - 1)]
    share = provider_share(row)
    return [
        *start,
        *(shown(percentile_interval(row.rounds_ms, q)) for q in (50, 90)),
        shown(percentile_interval(row.rounds_ms, 99)) if row.runs >= _RUNS_FOR_P99 else NOTHING,
        shown(throughput(row)),
        speedup(row),
        accuracy(row),
        megabytes(row.candidate.size_bytes),
        f"{row.peak_memory_bytes / 1e6:,.0f}" if row.peak_memory_bytes else NOTHING,
        f"{row.device_memory_bytes / 1e6:,.0f}" if row.device_memory_bytes else NOTHING,
        NOTHING if share is None else f"{math.floor(share * 100)}%",
        _once(row.load_ms),
        _once(row.first_run_ms),
    ]


def speedup(row: Row) -> str:
    """The ratio and its interval, with the digits that the interval supports."""
    if row.speedup is None:
        return "1 (baseline)" if row.baseline == row.name else NOTHING
    return shown_ratio(row.speedup)


def accuracy(row: Row) -> str:
    """The score with its interval, the parity where there is none."""
    return score(row) or row.parity or NOTHING


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in GitHub's markdown, the first column left and the others right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    lines = [headings, rule, *rows]
    return "\n".join("| " + " | ".join(in_markdown_cell(cell) for cell in line) + " |" for line in lines)


def markdown(found: Table, under: Sequence[str]) -> str:
    """A table, its struck lines struck through, and the lines under it."""
    lines = [
        [f"~~{cell}~~" if index in found.struck and cell != NOTHING else cell for cell in line]
        for index, line in enumerate(found.lines)
    ]
    bullets = "\n".join(f"- {in_markdown(line, code=True)}" for line in under)
    return f"{markdown_table(found.headings, lines)}\n\n{bullets}\n"


def megabytes(size: int) -> str:
    """Without the unit."""
    return f"{size / 1e6:.3f}" if size < 1e6 else f"{size / 1e6:,.2f}"


def _once(milliseconds: float | None) -> str:
    """Of what was measured once, the two digits that another try might confirm."""
    if milliseconds is None:
        return NOTHING
    rounded = float(f"{milliseconds:.2g}")
    digits = 1 - math.floor(math.log10(rounded)) if rounded > 0 else 0
    return f"{rounded:,.{max(0, digits)}f}"
