"""The figures of `make published`, and the table of them: a line a model, a column a tool and mode."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.results import keep as keep_results
from toolchain.bench.report import markdown_table

_LOOKS = ("inspect", "check", "bench")
_COLUMNS = (
    *(("nnx", mode) for mode in _LOOKS),
    ("onnxruntime", "dynamic"), ("nnx", "dynamic"), ("onnxruntime", "static"), ("nnx", "static"),
    ("nnx", "int4"), ("nnx", "fp16"),
)  # fmt: skip
Row = dict[str, Any]


def keep(path: Path, rows: list[Row]) -> None:
    """As JSON, infinities as None, and the table beside it."""
    plain = [
        {key: None if isinstance(value, float) and math.isinf(value) else value for key, value in row.items()}
        for row in rows
    ]
    keep_results(path, {"rows": plain}, table(rows))


def kept(path: Path) -> list[Row]:
    """The rows of an earlier run, as :func:`keep` left them; none where there is no such file."""
    if not path.exists():
        return []
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [
        {key: math.inf if value is None and key.endswith("_db") else value for key, value in row.items()}
        for row in rows
    ]


def line(row: Row) -> str:
    """For the terminal, as it goes."""
    mark = f"FAULT {row['fault']}" if row["fault"] else ""
    return " | ".join(filter(None, [row["model"], f"{row['tool']} {row['mode']}", _cell(row), row["says"], mark]))


def table(rows: list[Row]) -> str:
    """dB of the worst channel and of the worst output as a whole, and the size; then the counts, and the faults."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    by_cell = {(row["model"], row["tool"], row["mode"]): row for row in rows}
    lines = []
    for model in models:
        first = next(row for row in rows if row["model"] == model)
        cells = [by_cell.get((model, *column)) for column in _COLUMNS]
        lines.append(
            [model, f"{first['source_bytes'] / 1e6:.2f}", *("–" if row is None else _cell(row) for row in cells)]
        )
    head = ["model", "MB", *(f"{tool} {mode}" for tool, mode in _COLUMNS)]
    kinds = Counter((row["tool"], row["mode"], _kind(row)) for row in rows if row["tool"])
    counts = [
        [f"{tool} {mode}", *(str(kinds[tool, mode, kind]) for kind in ("right", "not right", "none"))]
        for tool, mode in _COLUMNS
    ]
    summary = markdown_table(["", "right", "a file that is not", "no file"], counts)
    faults = [f"- {row['model']}, {row['mode']}: {row['fault']}" for row in rows if row["fault"]]
    return "\n\n".join(filter(None, [markdown_table(head, lines), summary, "\n".join(faults)]))


def _kind(row: Row) -> str:
    if row["mode"] in _LOOKS:
        return "none" if row["fault"] else "right"
    if row["code"]:
        return "none"
    return "right" if row["right"] else "not right"


def _cell(row: Row) -> str:
    if not row["tool"]:
        return "cannot be fed"
    if row["code"]:
        return f"exit {row['code']}"
    if row["mode"] in _LOOKS:
        return f"{row['seconds']:.1f} s"
    if row["broken"]:
        return str(row["broken"]).partition(":")[0]
    size = f"{row['size_bytes'] / 1e6:.2f} MB"
    if math.isinf(row["whole_db"]):
        return f"{row['agreement']:.0%} agree, {size}"
    return f"{row['channel_db']:.1f} / {row['whole_db']:.1f} dB, {size}"
