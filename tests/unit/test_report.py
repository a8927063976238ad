import csv
import io
from dataclasses import replace
from pathlib import Path

from toolchain import report
from toolchain.bench_record import Benchmark, Candidate, Row, Setting
from toolchain.stats import Interval

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ON_CPU = Setting(provider="cpu", batch=1, threads=2)
ON_CUDA = Setting(provider="cuda", batch=1, threads=2)


def candidate(label: str, precision: str = "fp32", runtime: str = "ort") -> Candidate:
    size = {"fp32": 10_930_000, "fp16": 5_470_000, "int8-static": 900_123}[precision]
    return Candidate(
        label=label, runtime=runtime, precision=precision, model="m", sha256="ab" * 32, size_bytes=size
    )  # fmt: skip


def row(label: str, latency: float, speedup: Interval | None, precision: str = "fp32", **more: object) -> Row:
    facts = {
        "baseline": "eager",
        "first_run_ms": 12.34,
        "peak_memory_bytes": 251_000_000,
        "accuracy": Interval(0.9916, 0.975, 0.997),
        "provider_share": 1.0,
    }
    return Row(
        candidate=candidate(label, precision),
        setting=ON_CPU,
        rounds_ms=((latency, latency * 1.1), (latency, latency * 1.2)),
        speedup=speedup,
        **{**facts, **more},  # type: ignore[arg-type]
    )


MEASURED = Benchmark(
    machine={},
    created="2026-01-02T03:04:05+00:00",
    data="the test split of digits",
    rows=(
        row("eager", 4.0, None, provider_share=None),
        row("ort fp32", 1.0, Interval(4.0, 3.9, 4.1)),
        row("ort fp16", 1.01, Interval(3.96, 3.95, 3.97), "fp16"),
        row(
            "ort int8-static", 0.25, Interval(16.0, 15.5, 16.5), "int8-static", status="unproven",
            reason="Its outputs differ from the baseline's: | all.",
        ),
        Row(candidate=candidate("ort fp32"), setting=ON_CUDA, status="unavailable", reason="No GPU. Install one."),
    ),
)  # fmt: skip


def test_the_markdown_is_the_golden_one() -> None:
    assert report.markdown(MEASURED) == (GOLDEN / "bench.md").read_text(encoding="utf-8")


def test_the_csv_is_the_golden_one() -> None:
    assert report.to_csv(MEASURED) == (GOLDEN / "bench.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(report.to_csv(MEASURED))))
    assert rows[1]["speedup"] == "4"
    assert rows[4]["p50_ms"] == ""


def test_an_unproven_row_is_never_called_the_fastest() -> None:
    lines = report.verdict(MEASURED.rows)
    assert lines == ["cpu, batch 1: the fastest is ort fp32, not clearly ahead of ort fp16."]


def test_the_fastest_is_the_one_with_the_largest_speed_up() -> None:
    rows = [row("a", 1.0, Interval(2.0, 1.9, 2.1)), row("b", 2.0, Interval(3.0, 2.9, 3.1))]
    assert report.verdict(rows) == ["cpu, batch 1: the fastest is b."]


def test_no_p99_from_a_handful_of_runs() -> None:
    few = row("a", 1.0, None)
    assert report.cells(few)[5] == "–"
    many = replace(few, rounds_ms=((1.0,) * 100,))
    assert report.cells(many)[5] == "1.00"


def test_a_share_below_one_never_reads_as_all() -> None:
    assert report.cells(row("a", 1.0, None, provider_share=299 / 300))[11] == "99%"


def test_digits_follow_the_interval() -> None:
    assert report.speedup(row("a", 1, Interval(3.9612, 3.95, 3.97))) == "3.96x (3.95–3.97)"
    assert report.speedup(row("a", 1, Interval(3.9612, 3.1, 4.8))) == "4.0x (3.1–4.8)"
