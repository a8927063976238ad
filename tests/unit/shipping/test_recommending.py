from collections.abc import Sequence
from typing import Any

from tests.unit.bench.scripted_bench import MACHINE, candidate, setting, timed
from toolchain.accuracy.status import Status
from toolchain.bench.record import Benchmark, Row
from toolchain.shipping.recommending import refused, rows_of
from toolchain.stats import Interval

HASHES = {"fp32": "a" * 64, "fp16": "b" * 64, "int8-static": "c" * 64}


def row(variant: str, latency: float, speedup: float | None, **more: Any) -> Row:
    ratio = None if speedup is None else Interval(speedup, speedup * 0.9, speedup * 1.1)
    who = candidate(f"ort {variant}", variant, sha256=HASHES[variant])
    return timed(f"ort {variant}", latency, ratio, variant, **{"candidate": who, "setting": setting(), **more})


def benchmark(rows: Sequence[Row]) -> Benchmark:
    return Benchmark(machine=MACHINE, created="", data="", rows=tuple(rows))


def order(rows: Sequence[Row]) -> list[str]:
    return list(rows_of(benchmark(rows), HASHES))


def test_the_fastest_proven_row_comes_first_and_the_rest_by_speed() -> None:
    rows = [row("fp32", 2.0, 3.0), row("fp16", 2.5, 2.4), row("int8-static", 1.0, 6.0)]
    assert order(rows) == ["int8-static", "fp32", "fp16"]


def test_rows_of_other_providers_interpreters_and_batches_do_not_count() -> None:
    rows = [
        row("fp32", 2.0, 3.0),
        row("int8-static", 9.0, 0.7),
        row("int8-static", 0.1, 60.0, setting=setting("cuda")),
        row("int8-static", 0.1, 60.0, setting=setting(python="/other/python")),
        row("int8-static", 1.0, 60.0, setting=setting(batch=32)),
    ]
    assert order(rows) == ["fp32", "int8-static"]


def test_a_file_that_the_bench_refused_is_not_recommended() -> None:
    bad = row("int8-static", 1.0, 6.0, status=Status.UNPROVEN, reason="It loses 9 points.")
    rows = [row("fp32", 2.0, 3.0), bad]
    assert order(rows) == ["fp32"]
    assert refused(benchmark(rows), HASHES) == {"int8-static": "It loses 9 points."}


def test_rows_of_files_that_have_changed_since_say_nothing() -> None:
    assert order([timed("ort fp32", 1.0, None)]) == []
