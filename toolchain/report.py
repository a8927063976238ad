"""Benchmark rows -> cells, markdown, CSV; the report of a whole run."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict

from toolchain.bench_record import Benchmark, Row
from toolchain.stats import Interval

HEADINGS = (
    "row", "provider", "batch", "p50 ms", "p90 ms", "p99 ms", "samples/s", "speed-up", "accuracy",
    "size MB", "memory MB", "on provider", "first run ms",
)  # fmt: skip

DROPPABLE = ("p90 ms", "memory MB", "first run ms", "p99 ms", "on provider", "samples/s", "size MB")
"""Headings that a narrow terminal can do without, the least needed first."""
_RUNS_FOR_P99 = 100


def cells(row: Row) -> list[str]:
    """One row of the table under HEADINGS; a row that did not run says so instead of a latency."""
    start = [row.candidate.label, row.setting.provider, str(row.setting.batch)]
    if not row.rounds_ms:
        return [*start, row.status, *["–"] * (len(HEADINGS) - 4)]
    return [
        *start,
        *(_significant(row.latency_ms(q)) for q in (50, 90)),
        _significant(row.latency_ms(99) if row.runs >= _RUNS_FOR_P99 else None),
        _significant(row.throughput_per_s),
        speedup(row),
        accuracy(row),
        f"{row.candidate.size_bytes / 1e6:.3f}"
        if row.candidate.size_bytes < 1e6
        else f"{row.candidate.size_bytes / 1e6:.2f}",
        f"{row.peak_memory_bytes / 1e6:.0f}" if row.peak_memory_bytes else "–",
        "–" if row.provider_share is None else f"{math.floor(row.provider_share * 100)}%",
        _significant(row.first_run_ms),
    ]


def speedup(row: Row) -> str:
    """The ratio and its interval, with the digits that the interval supports."""
    if row.speedup is None:
        return "1 (baseline)" if row.baseline == row.candidate.label else "–"
    low, high = row.speedup.low, row.speedup.high
    digits = 2 if high - low < 0.1 else 1
    return f"{row.speedup.estimate:.{digits}f}x ({low:.{digits}f}–{high:.{digits}f})"


def accuracy(row: Row) -> str:
    """The accuracy with half its interval, or the parity where there are no labels."""
    if row.accuracy is not None:
        half = (row.accuracy.high - row.accuracy.low) / 2
        return f"{row.accuracy.estimate:.2%} ±{half * 100:.1f}"
    return row.parity or "–"


def unsuccessful(rows: Sequence[Row]) -> list[str]:
    """One line for each row that is not ok, saying why; the same reason in several settings once."""
    lines: dict[str, None] = {}
    for row in rows:
        if row.status != "ok":
            lines[f"{row.candidate.label} on {row.setting.provider}: {row.status}. {row.reason}"] = None
    return list(lines)


def verdict(rows: Sequence[Row]) -> list[str]:
    """For each setting: which row is the fastest, and which are not clearly slower."""
    lines = []
    for setting in dict.fromkeys(row.setting for row in rows):
        timed = [row for row in rows if row.setting == setting and row.status == "ok" and row.rounds_ms]
        if len(timed) < 2:
            continue
        best, *others = sorted(timed, key=lambda row: _speed(row).estimate, reverse=True)
        level = [row.candidate.label for row in others if _speed(row).high >= _speed(best).low]
        line = f"{setting.provider}, batch {setting.batch}: the fastest is {best.candidate.label}"
        lines.append(line + (f", not clearly ahead of {', '.join(level)}." if level else "."))
    return lines


def _speed(row: Row) -> Interval:
    """The speed-up; the baseline's is exactly 1."""
    return row.speedup or Interval(1.0, 1.0, 1.0)


def half_precision_note(rows: Sequence[Row]) -> str | None:
    """What every reader of an fp16 or bf16 row on a CPU should know."""
    if any(
        row.candidate.precision in ("fp16", "bf16") and row.setting.provider == "cpu" and row.rounds_ms for row in rows
    ):
        return "fp16 on a CPU saves bytes, not time: the kernels run in fp32 with casts around them."
    return None


def notes(benchmark: Benchmark) -> list[str]:
    """Everything worth a line under the table."""
    found = [*verdict(benchmark.rows), half_precision_note(benchmark.rows), *unsuccessful(benchmark.rows)]
    return [line for line in found if line]


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in GitHub's markdown, the first column left and the others right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    lines = [headings, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def markdown(benchmark: Benchmark) -> str:
    """The table with its notes."""
    rows = []
    for row in benchmark.rows:
        values = cells(row)
        rows.append([f"~~{value}~~" for value in values] if row.status == "unproven" else values)
    bullets = "\n".join(f"- {line}" for line in notes(benchmark))
    return f"{markdown_table(HEADINGS, rows)}\n\n{bullets}\n"


def to_csv(benchmark: Benchmark) -> str:
    """One line a row, plain numbers with their units in the header."""
    out = io.StringIO()
    lines = [_csv_line(row) for row in benchmark.rows]
    writer = csv.DictWriter(out, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _csv_line(row: Row) -> dict[str, object]:
    candidate, setting, ratio = row.candidate, row.setting, row.speedup
    figures = {
        "p50_ms": row.latency_ms(50),
        "p90_ms": row.latency_ms(90),
        "p99_ms": row.latency_ms(99),
        "throughput_per_s": row.throughput_per_s,
        "speedup": ratio and ratio.estimate,
        "speedup_low": ratio and ratio.low,
        "speedup_high": ratio and ratio.high,
        "accuracy": row.accuracy and row.accuracy.estimate,
        "accuracy_low": row.accuracy and row.accuracy.low,
        "accuracy_high": row.accuracy and row.accuracy.high,
        "provider_share": row.provider_share,
        "load_ms": row.load_ms,
        "first_run_ms": row.first_run_ms,
    }
    return {
        "row": candidate.label,
        "runtime": candidate.runtime,
        "precision": candidate.precision,
        **asdict(setting),
        "status": row.status,
        "reason": row.reason,
        "baseline": row.baseline,
        "parity": row.parity,
        **{name: "" if value is None else f"{value:.6g}" for name, value in figures.items()},
        "size_bytes": candidate.size_bytes,
        "peak_memory_bytes": row.peak_memory_bytes,
        "sha256": candidate.sha256,
    }


def _significant(value: float | None) -> str:
    """Three significant digits, thousands with a comma."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")
