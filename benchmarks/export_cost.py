"""`make export-cost`: what `nnx export` takes, its proof included, beside plain torch.onnx.export of the same module.

Each in a process of its own, taking turns; the whole process counts, imports too, as a user waits for them. Plain
torch.onnx.export writes a file that nobody has run; nnx runs it at four batches beside PyTorch.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.results import OUT, keep
from toolchain import stats
from toolchain.bench.report import markdown_table

_MODELS = Path(__file__).resolve().with_name("models.py")
_NETS = {
    "resnet18": "image=float32[1,3,224,224]",
    "encoder": "input_ids=int64[1,128]<30522",
    "sst2": "tfidf=float32[1,5000]",
}
_MOST = 1.5
_PLAIN = """
import sys
import torch
from benchmarks import models
name, shape, file = sys.argv[1], [int(each) for each in sys.argv[2].split(",")], sys.argv[3]
example = torch.zeros(shape, dtype=torch.int64 if name == "encoder" else torch.float32)
torch.onnx.export(
    getattr(models, name)(), (example,), file, dynamo=True, verbose=False, external_data=False,
    dynamic_shapes=({0: torch.export.Dim.AUTO},), opset_version=20,
)
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one process and those that it started."""

    seconds: float
    processor_s: float
    peak_bytes: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two turns, to see that it works")
    parser.add_argument("--only", choices=[*_NETS], help="one net alone")
    parser.add_argument("--out", type=Path, default=OUT / "export-cost.json")
    options = parser.parse_args()
    turns = 2 if options.quick else options.turns
    rows: list[dict[str, Any]] = []
    for name in [options.only] if options.only else _NETS:
        costs: dict[str, list[Cost]] = {"torch": [], "nnx": []}
        with TemporaryDirectory() as folder:
            for turn in range(turns + 1):  # the first fills the disk's cache
                for tool in sorted(costs, reverse=bool(turn % 2)):
                    cost = _cost(_command(tool, name, Path(folder) / f"{tool}.onnx"))
                    if turn:
                        costs[tool].append(cost)
        rows.append(_row(name, costs))
        keep(options.out, {"rows": rows}, _table(rows))
        print(_table(rows[-1:]), flush=True)
    print(f"\n{_table(rows)}\n\nAll of it lies in {options.out}.")
    return int(any(row["seconds_ratio"]["low"] > _MOST or row["memory_ratio"] > _MOST for row in rows))


def _command(tool: str, name: str, file: Path) -> list[str]:
    if tool == "nnx":
        return [
            sys.executable, "-m", "toolchain", "export", f"{_MODELS}:{name}", "--input", _NETS[name], "-o", str(file),
        ]  # fmt: skip
    shape = "2," + _NETS[name].partition("[")[2].partition("]")[0].partition(",")[2]
    return [sys.executable, "-c", _PLAIN, name, shape, str(file)]


def _cost(command: list[str]) -> Cost:
    """Of the command, which must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # also of the processes that it started and waited for
    took = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    return Cost(seconds=took, processor_s=used.ru_utime + used.ru_stime, peak_bytes=used.ru_maxrss * 1024)


def _row(name: str, costs: dict[str, list[Cost]]) -> dict[str, Any]:
    facts: dict[str, Any] = {"net": name}
    for what in ("seconds", "processor_s"):
        pairs = [[getattr(cost, what) for cost in costs[tool]] for tool in ("nnx", "torch")]
        ratio = stats.ratio_of_medians(*([[each] for each in side] for side in pairs))
        facts |= {f"{what}_ratio": {"value": ratio.estimate, "low": ratio.low, "high": ratio.high}}
        facts |= {f"{what}_nnx": pairs[0], f"{what}_torch": pairs[1]}
    peaks = {tool: max(cost.peak_bytes for cost in costs[tool]) for tool in costs}
    return {**facts, "peak_bytes": peaks, "memory_ratio": peaks["nnx"] / peaks["torch"]}


def _table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        middle = {tool: stats.percentile(row[f"seconds_{tool}"], 50) for tool in ("torch", "nnx")}
        ratios = [row[f"{what}_ratio"] for what in ("seconds", "processor_s")]
        lines.append(
            [
                row["net"], *(f"{middle[tool]:.1f}" for tool in ("torch", "nnx")),
                *(f"{each['value']:.2f} ({each['low']:.2f}–{each['high']:.2f})" for each in ratios),
                *(f"{row['peak_bytes'][tool] / 1e6:,.0f}" for tool in ("torch", "nnx")), f"{row['memory_ratio']:.2f}",
            ]
        )  # fmt: skip
    head = ["net", "torch s", "nnx s", "ratio of time", "of processor time", "torch MB", "nnx MB", "ratio of memory"]
    return markdown_table(head, lines)


if __name__ == "__main__":
    raise SystemExit(main())
