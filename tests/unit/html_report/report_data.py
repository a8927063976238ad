"""A benchmark with scripted figures, and the files of a run around it."""

import json
import random
from pathlib import Path
from typing import Any

from toolchain.ablation.record import Ablation, Variant
from toolchain.accuracy.status import Status
from toolchain.bench.record import Benchmark, Candidate, NodeShare, Profile, Row, Setting, Unfused
from toolchain.layers.record import ExplainedLayer, Explanation
from toolchain.stats import Interval
from toolchain.training.record import Epoch, History

EVIL = "<script>alert('&')</script>"
_SIZES = {"eager": 786_000, "ort fp32": 757_000, "ort int8-static": 227_000, "ort int8-dynamic": 749_000}


def profile(*operators: tuple[str, float], **more: Any) -> Profile:
    """One node an operator."""
    nodes = tuple(
        NodeShare(
            name=f"node_{operator}",
            op_type=operator,
            provider="cpu",
            precision="fp32",
            mean_us=100 * share,
            share=share,
        )
        for operator, share in operators
    )
    facts = {"run_us": 100.0, "copies": 0, "casts": 0, "unfused": (), "advice": "Nothing stands out.", **more}
    return Profile(nodes=nodes, op_types=dict(operators), **facts)


def row(label: str, batch: int, milliseconds: float, speedup: float | None, **more: Any) -> Row:
    """Five rounds of 40 latencies, scattered around ``milliseconds`` in the same way each time."""
    chance = random.Random(f"{label}{batch}")
    rounds = tuple(tuple(milliseconds * chance.lognormvariate(0, 0.06) for _ in range(40)) for _ in range(5))
    facts: dict[str, Any] = {
        "load_ms": 12.0,
        "first_run_ms": 3 * milliseconds,
        "rounds_ms": rounds,
        "rounds_s": tuple(sum(block) / 1e3 for block in rounds),
        "rounds_runs": tuple(len(block) for block in rounds),
        "baseline": "eager on cpu",
        "speedup": None if speedup is None else Interval(speedup, speedup * 0.98, speedup * 1.02),
        "accuracy": Interval(0.779, 0.771, 0.787),
        "peak_memory_bytes": 65_000_000,
        "nodes": {"CPUExecutionProvider": 15} if label != "eager" else {},
        **more,
    }
    return Row(candidate=candidate(label), setting=Setting(provider="cpu", batch=batch, threads=2), **facts)


def candidate(label: str) -> Candidate:
    """A file of ``label``'s usual size."""
    return Candidate(
        label=label, runtime="ort" if label.startswith("ort") else label, precision="fp32", model=f"{label}.onnx",
        sha256="ab" * 32, size_bytes=_SIZES[label],
    )  # fmt: skip


def _rows(batch: int) -> tuple[Row, ...]:
    return (
        row("eager", batch, 0.885 * batch, None),
        row(
            "ort fp32", batch, 0.118 * batch, 7.5, profile=profile(("Conv", 0.8), ("Add", 0.2)),
            drop=Interval(0.0, -0.004, 0.004),
        ),
        row(
            "ort int8-static", batch, 0.0786 * batch, 11.26, accuracy=Interval(0.771, 0.763, 0.779),
            drop=Interval(0.008, 0.004, 0.012),
            profile=profile(
                ("QLinearConv", 0.62), ("QuantizeLinear", 0.3), ("Relu", 0.08), casts=2,
                unfused=(Unfused(name="node_Relu", op_type="Relu", share=0.08, why="in float"),),
                advice="One node runs in float between Q and DQ.",
            ),
        ),
        row(
            "ort int8-dynamic", batch, 0.05 * batch, 17.7, accuracy=Interval(0.4, 0.39, 0.41), status=Status.UNPROVEN,
            reason="Its answers differ from the baseline's.", drop=Interval(0.379, 0.37, 0.388),
        ),
        Row(
            candidate=candidate("ort fp32"), setting=Setting(provider="cuda", batch=batch, threads=2),
            status=Status.UNAVAILABLE, reason=f"There is no CUDA device {EVIL}.",
        ),
    )  # fmt: skip


MACHINE = {
    "system": "Linux 6", "architecture": "x86_64", "processor": f"CPU {EVIL}", "cores": 2, "memory_bytes": 2**34,
    "isa": ["avx2"], "gpu": None, "python": "3.11", "libraries": {"onnxruntime": "1.31.1", "onnxruntime-gpu": "-"},
}  # fmt: skip
BENCHMARK = Benchmark(
    machine=MACHINE,
    created="2026-01-02T03:04:05+00:00",
    data="the test split of tiny",
    rows=(*_rows(1), *_rows(32)),
    command=("nnx", "bench", "artifacts/tiny", "--batch", "1,32", "--data", "my data"),
    warnings=("eager drifted by 8 % from the first round to the last: cool the machine down.",),
)
TRAINING = History(
    options={"epochs": 2, "batch_size": 64, "lr": 0.1, "seed": 42, "device": "cpu", "switches": {}},
    epochs=tuple(
        Epoch(
            number=number, loss=2.0 / number, train_score=0.3 * number, seconds=1.5,
            validation_score=0.29 * number, samples_per_s=500.0,
        )
        for number in (1, 2, 3)
    ),
)  # fmt: skip
ABLATION = Ablation(
    recipe="tiny",
    options=TRAINING.options,
    machine=MACHINE,
    variants=tuple(
        Variant(
            name=name, switched_on=(), steps_ms=((600 / gain,), (600 / gain,)), parts_s=(30 / gain, 30 / gain),
            epochs=1, validation_score=0.45, first_step_s=1.0,
            step_gain=Interval(gain, gain * 0.95, gain * 1.05), epoch_gain=Interval(gain, gain * 0.9, gain * 1.1),
        )
        for name, gain in (("plain", 1.0), ("amp bf16", 2.0), ("all switches", 3.7))
    ),
    dropped={},
)  # fmt: skip
EXPLANATION = Explanation(
    model="tiny/model.int8-static.onnx", precision="int8-static", reference="tiny/model.onnx",
    samples="the test split of tiny", batch=1, threads=2, machine=MACHINE, run_us=100.0, conversion_share=0.0,
    unfused=(), advice=("No layer stands out.",),
    layers=tuple(
        ExplainedLayer(
            name=f"node_Conv_{number}", op_type="Conv", output=f"conv_{number}", precision="int8", weight_bytes=1000,
            own_sqnr_db=20.0 + 8 * number, accumulated_sqnr_db=18.0 + 4 * number, noise_share=0.5 / (number + 1),
            runs_as="QLinearConv", mean_us=10.0 * number, time_share=0.1 * number,
        )
        for number in range(5)
    ),
)  # fmt: skip


def folder_with(place: Path, *, bench: Benchmark = BENCHMARK, whole: bool = True) -> Path:
    """An artifacts folder; ``whole`` adds all that a run can leave beside the benchmark."""
    place.mkdir(parents=True)
    (place / "bench.json").write_text(bench.to_json(), encoding="utf-8")
    if whole:
        for name, record in (("training", TRAINING), ("ablation", ABLATION), ("explain", EXPLANATION)):
            (place / f"{name}.json").write_text(record.to_json(), encoding="utf-8")
        manifest = {"schema_version": 1, "recipe": "tiny", "data": None, "steps": {}}
        (place / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return place
