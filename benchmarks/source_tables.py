"""The two tables of the documents that nnx grew from, beside ours: `make tables`.

Reads artifacts/cifar10/ablation.json (from `nnx train cifar10 --data DIR --ablate`) and artifacts/sst2/bench.json (from
`nnx run sst2 --data DIR --batch 1`), prints markdown, and says which command makes a file that is not there.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolchain.bench.record import Benchmark, Row
from toolchain.bench.report import markdown_table

# What the documents report: on a GPU of 2022 for the training loop, on a CPU for the sentiment model.
SOURCE_STEP_MS = {"plain": 350, "all switches": 140}
SOURCE_EPOCH_S = {"plain": 16, "all switches": 16}
SOURCE_SST2 = {
    "original": ("78.83 %", 10.43, 1.0),
    "dynamic": ("78.83 %", 2.62, 1 / 8),
    "half": ("78.83 %", 5.22, 1 / 10),
}
OUR_SST2 = {"original": "eager", "dynamic": "ort int8-dynamic", "half": "ort fp16"}
MIB = 2**20


def training_table(ablation: dict[str, Any]) -> str:
    rows = []
    for variant in ablation["variants"]:
        name, step, epoch = variant["name"], variant["step_gain"], variant["epoch_gain"]
        rows.append(
            [
                name,
                f"{SOURCE_STEP_MS[name]} ms" if name in SOURCE_STEP_MS else "–",
                f"{SOURCE_EPOCH_S[name]} s" if name in SOURCE_EPOCH_S else "–",
                f"{variant['step_ms']:.0f} ms",
                f"{step['estimate']:.2f}x ({step['low']:.2f}–{step['high']:.2f})",
                f"{variant['epoch_s']:.1f} s",
                f"{epoch['estimate']:.2f}x ({epoch['low']:.2f}–{epoch['high']:.2f})",
                f"{variant['validation_score']:.1%}",
            ]
        )
    head = ["training loop", "source: step", "source: epoch", "step", "gain", "epoch", "gain", "validation"]
    batch = ablation["options"]["batch_size"]
    return f"{markdown_table(head, rows)}\n\nSource: 2.5x a step, 1.0x an epoch. Ours at batch {batch}.\n"


def sst2_table(measured: Benchmark) -> str:
    rows = {row.candidate.label: row for row in measured.rows if row.setting.batch == 1}
    lines = []
    for source, label in [*OUR_SST2.items(), ("–", "ort int8-static"), ("–", "ort fp32")]:
        accuracy, size, speed = SOURCE_SST2.get(source, ("–", None, None))
        row = rows[label]
        lines.append(
            [
                source,
                accuracy,
                f"{size} MB" if size else "–",
                f"{speed:.3g}x" if speed else "–",
                label,
                _accuracy(row),
                f"{row.candidate.size_bytes / MIB:.2f} MB",
                f"{row.latency_ms(50):.4f} ms",
                f"{row.speedup.estimate:.2f}x" if row.speedup else "1x",
            ]
        )
    head = ["source", "accuracy", "size", "speed", "ours", "test accuracy", "size (MiB)", "p50", "speed over eager"]
    return markdown_table(head, lines) + "\n\nfp16 on a CPU saves bytes, not time: its kernels run in fp32.\n"


def _accuracy(row: Row) -> str:
    return f"{row.accuracy.estimate:.2%}" if row.accuracy else "–"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    folder = parser.parse_args().artifacts
    missing = 0
    tables: tuple[tuple[str, Path, str, Callable[[str], str]], ...] = (
        (
            "Training on CIFAR-10",
            folder / "cifar10" / "ablation.json",
            "nnx train cifar10 --data DIR --ablate",
            lambda text: training_table(json.loads(text)),
        ),
        (
            "SST-2: original, dynamic, half",
            folder / "sst2" / "bench.json",
            "nnx run sst2 --data DIR --batch 1 --threads 1",
            lambda text: sst2_table(Benchmark.from_json(text)),
        ),
    )
    for title, path, command, table in tables:
        if path.exists():
            print(f"## {title}\n\n{table(path.read_text(encoding='utf-8'))}")
        else:
            print(f"{path} is not there yet: make it with `{command}`.", file=sys.stderr)
            missing += 1
    return 2 if missing == 2 else 0


if __name__ == "__main__":
    raise SystemExit(main())
