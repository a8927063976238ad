"""The table of `make zoo`: a line an architecture, a column a step; under it the counts, and every reason."""

from collections import Counter
from typing import Any

from benchmarks.hard.verdicts import Kind
from benchmarks.zoo.road import STEPS
from toolchain.bench.report import markdown_table

Row = dict[str, Any]
BAD = (Kind.WRONG, Kind.FAULT)


def table(rows: list[Row]) -> str:
    by_cell = {(row["architecture"], row["step"]): row for row in rows}
    names = list(dict.fromkeys(row["architecture"] for row in rows))
    lines = [[name, *(_cell(by_cell.get((name, step))) for step in STEPS)] for name in names]
    kinds = Counter((row["step"], row["kind"]) for row in rows)
    counts = [[kind, *(str(kinds[step, kind]) for step in STEPS)] for kind in Kind]
    reasons = [
        f"- {row['architecture']}, {row['step']}, {row['kind']}: {row['why']}"
        for row in rows
        if row["kind"] != Kind.RIGHT
    ]
    return "\n\n".join(
        filter(None, [markdown_table(["", *STEPS], lines), markdown_table(["", *STEPS], counts), "\n".join(reasons)])
    )


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    if row["kind"] != Kind.RIGHT:
        return str(row["kind"])
    if row.get("channel_db") is not None:
        return f"{row['channel_db']:.0f} dB"
    return "right"
