"""A benchmark as CSV."""

import csv
import io
import math
from collections.abc import Mapping

from toolchain.bench.figures import efficient, provider_share, throughput
from toolchain.bench.record import Benchmark, Row
from toolchain.legible import in_csv
from toolchain.stats import Interval, percentile_interval


def to_csv(benchmark: Benchmark) -> str:
    """One line a row, plain numbers with their units in the header; of what has several parts ``name=value;...``."""
    out = io.StringIO()
    marked = efficient(benchmark.rows)
    lines = [_csv_line(row, index in marked) for index, row in enumerate(benchmark.rows)]
    if any(row.metric for row in benchmark.rows):
        lines = [
            {**line, "metric": row.metric and row.metric.name} for line, row in zip(lines, benchmark.rows, strict=True)
        ]
    if benchmark.hosts:
        places = [{"host": row.setting.host, "emulated": row.emulated} for row in benchmark.rows]
        lines = [{**line, **place} for line, place in zip(lines, places, strict=True)]
    writer = csv.DictWriter(out, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: in_csv(value) if isinstance(value, str) else value for name, value in line.items()} for line in lines
    )
    return out.getvalue()


def _csv_line(row: Row, is_efficient: bool) -> dict[str, object]:
    candidate, setting, ran = row.candidate, row.setting, bool(row.rounds_ms)
    return {
        "row": candidate.label,
        "runtime": candidate.runtime,
        "precision": candidate.precision,
        "model": candidate.model,
        "sha256": candidate.sha256,
        "size_bytes": candidate.size_bytes,
        "provider": setting.provider,
        "options": _joined(dict(setting.options)),
        "batch": setting.batch,
        "threads": setting.threads,
        "concurrency": setting.concurrency,
        "copies": setting.copies,
        "cpus": " ".join(map(str, setting.cpus)),
        "python": setting.python,
        "status": row.status,
        "reason": row.reason,
        "repeats": int(row.repeats),
        "efficient": int(is_efficient),
        "rounds": len(row.rounds_ms),
        "runs": row.runs,
        **_ends("p50_ms", percentile_interval(row.rounds_ms, 50) if ran else None),
        **_ends("p90_ms", percentile_interval(row.rounds_ms, 90) if ran else None),
        **_ends("p99_ms", percentile_interval(row.rounds_ms, 99) if ran else None),
        **_ends("throughput_per_s", throughput(row) if ran else None),
        "baseline": row.baseline,
        **_ends("speedup", row.speedup),
        **_ends("accuracy", row.accuracy),
        **_ends("drop", row.drop),
        "parity": row.parity,
        "load_ms": _plain(row.load_ms),
        "first_run_ms": _plain(row.first_run_ms),
        "peak_memory_bytes": row.peak_memory_bytes,
        "device_memory_bytes": row.device_memory_bytes,
        "provider_share": _plain(provider_share(row)),
        "nodes": _joined(row.nodes),
        "facts": _joined(row.facts),
    }


def _ends(name: str, interval: Interval | None) -> dict[str, str]:
    ends = (None, None, None) if interval is None else (interval.estimate, interval.low, interval.high)
    return {f"{name}{end}": _plain(value) for end, value in zip(("", "_low", "_high"), ends, strict=True)}


def _plain(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _joined(parts: Mapping[str, object]) -> str:
    return ";".join(f"{name}={value}" for name, value in parts.items())
