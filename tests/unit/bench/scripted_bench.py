"""Benchmarks with scripted figures, for what reads and prints them."""

from typing import Any

from toolchain.bench.record import Benchmark, Candidate, NodeShare, Profile, Row, Setting, Unfused
from toolchain.stats import Interval

SIZES = {"fp32": 10_930_000, "fp16": 5_470_000, "int8-static": 900_123}
MACHINE: dict[str, Any] = {
    "system": "Linux 6.1",
    "architecture": "x86_64",
    "processor": "Scripted 9000",
    "cores": 2,
    "memory_bytes": 8 * 2**30,
    "isa": ["avx2", "avx512_vnni"],
    "gpu": None,
    "python": "3.11.2",
    "libraries": {"onnxruntime": "1.31.1", "torch": "2.13.0", "onnxscript": "-"},
}
PROFILE = Profile(
    run_us=1234.5,
    nodes=(NodeShare(name="conv1", op_type="Conv", provider="cpu", precision="int8", mean_us=800.0, share=1.0),),
    op_types={"Conv": 1.0},
    copies=0,
    casts=2,
    unfused=(Unfused(name="add", op_type="Add", share=0.1, why="it runs in float between Q and DQ"),),
    advice="Conv takes 100 % of the time, in int8.",
)


def rounds(latency: float, *, count: int = 5, runs: int = 20) -> tuple[tuple[float, ...], ...]:
    """Latencies that spread by 8 % within a round and by 1 % between rounds."""
    return tuple(
        tuple(latency * (1 + 0.02 * (run % 5) + 0.0025 * (number * 3 % 5)) for run in range(runs))
        for number in range(count)
    )


def candidate(label: str, precision: str = "fp32", **more: Any) -> Candidate:
    facts = {"runtime": "ort", "model": "m.onnx", "sha256": "ab" * 32, "size_bytes": SIZES[precision]}
    return Candidate(label=label, precision=precision, **{**facts, **more})


def setting(provider: str = "cpu", batch: int = 1, threads: int = 2, **more: Any) -> Setting:
    return Setting(provider=provider, batch=batch, threads=threads, **more)


def timed(label: str, latency: float, speedup: Interval | None, precision: str = "fp32", **more: Any) -> Row:
    """A row that ran; ``speedup`` None makes it the baseline."""
    taken = rounds(latency)
    facts = {
        "candidate": candidate(label, precision),
        "setting": setting(),
        "load_ms": 5.67,
        "first_run_ms": 12.34,
        "rounds_ms": taken,
        "rounds_s": tuple(sum(block) / 1e3 for block in taken),
        "rounds_runs": tuple(len(block) for block in taken),
        "baseline": "eager on cpu",
        "speedup": speedup,
        "accuracy": Interval(0.9916, 0.975, 0.997),
        "peak_memory_bytes": 251_000_000,
        "nodes": {"CPUExecutionProvider": 31},
    }
    return Row(**{**facts, **more})


def benchmark(*rows: Row, **more: Any) -> Benchmark:
    facts = {
        "machine": MACHINE,
        "created": "2026-01-02T03:04:05+00:00",
        "data": "the test split of digits",
        "command": ("nnx", "bench", "artifacts/digits"),
        "effort": {"min_rounds": 5, "seconds": 1.0},
    }
    return Benchmark(rows=rows, **{**facts, **more})
