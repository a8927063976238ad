"""Which variant comes first: the one that a benchmark recommends; ONNX Runtime takes the first of its provider."""

from collections.abc import Mapping

from toolchain.accuracy.status import Status
from toolchain.bench import leader
from toolchain.bench.figures import is_proven
from toolchain.bench.record import Benchmark, Circumstances, Row


def rows_of(benchmark: Benchmark, hashes: Mapping[str, str]) -> dict[str, Row]:
    """Each variant's row, the recommended first, then by speed; ``hashes`` by variant.

    All in the same circumstances, those of the smallest batch and one stream, on the first device that was measured,
    else here. A variant that the benchmark refused or does not know, or whose row was not to be had, has none.
    """
    names = {sha256: name for name, sha256 in hashes.items()}
    bad = refused(benchmark, hashes)
    rows = [row for row in benchmark.rows if names.get(row.candidate.sha256, "") not in ("", *bad) and _is_plain(row)]
    able = [row for row in rows if is_proven(row)]
    if not able:
        return {}
    chosen = min((row.setting.circumstances for row in able), key=_preference)
    level = [row for row in able if row.setting.circumstances == chosen]
    first = leader.fastest(level)
    assert first is not None  # all are proven
    ordered = [first, *sorted((row for row in level if row is not first), key=_median_ms)]
    return {names[row.candidate.sha256]: row for row in ordered}


def refused(benchmark: Benchmark, hashes: Mapping[str, str]) -> dict[str, str]:
    """The variants whose rows say that their outputs are not to be trusted, and why."""
    bad = {row.candidate.sha256: row.reason for row in benchmark.rows if _is_plain(row) and _is_refused(row)}
    return {name: bad[sha256] for name, sha256 in hashes.items() if sha256 in bad}


def _preference(circumstances: Circumstances) -> tuple[bool, int, int]:
    return circumstances.host is None, circumstances.batch, circumstances.concurrency


def _is_refused(row: Row) -> bool:
    """That it failed on another machine may be that machine's fault; that it answers wrongly there is not."""
    return row.status is Status.UNPROVEN or (row.status is Status.FAILED and row.setting.host is None)


def _is_plain(row: Row) -> bool:
    """On a CPU's ONNX Runtime, in nnx's own interpreter: what the package's runner does, too."""
    return row.candidate.runtime == "ort" and row.setting.provider == "cpu" and row.setting.python is None


def _median_ms(row: Row) -> float:
    median = row.latency_ms(50)
    assert median is not None  # it ran
    return median
