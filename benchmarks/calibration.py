"""What calibration costs: memory and time of nnx and of ONNX Runtime, beside inference alone, on ResNet-18 at 224.

    make calibration DATA=folder-of-cifar10

Every measurement is a process of its own; the tools take turns, in another random order each round. Leaves
calibration.json and calibration.md in artifacts/benchmarks.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import quantizers
from benchmarks.results import OUT, data_option, keep
from toolchain.bench.report import markdown_table
from toolchain.stats import ratio_of_medians

NET, INPUT = "resnet18", "image"
COUNTS, QUICK_COUNTS = (64, 256, 1024), (4, 8)
# 29.8 MB an image: 1,024 would take about 31 GB
PERCENTILE_UP_TO = 256
_WATCH_EVERY_S = 0.02
MB = 1e6

Array = npt.NDArray[np.generic]


def two_workers(model: Path, samples: dict[str, Array]) -> None:
    """Inference alone as nnx's calibration runs it: one session, two threads, each sample a call of its own."""
    session = _session(model, threads=1)
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda row: session.run(None, _feeds(samples, row)), range(_count(samples))):
            pass


def two_threads(model: Path, samples: dict[str, Array]) -> None:
    """Inference alone as most people run it: call after call, two threads inside each."""
    session = _session(model, threads=2)
    for row in range(_count(samples)):
        session.run(None, _feeds(samples, row))


TOOLS: dict[str, Callable[[Path, dict[str, Array]], None]] = {
    "inference, 2 workers": two_workers,
    "inference, 2 threads": two_threads,
    "nnx": quantizers.nnx_calibrate,
    "onnxruntime minmax": lambda model, samples: quantizers.ort_calibrate(model, samples, "minmax"),
    "onnxruntime percentile": lambda model, samples: quantizers.ort_calibrate(model, samples, "percentile"),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One tool on one number of images.

    ``own_bytes`` is the peak of the process's own memory: all it holds, its libraries too, but the mapped inputs.
    """

    tool: str
    images: int
    rounds_s: list[float]
    own_bytes: int

    @property
    def seconds(self) -> float:
        return statistics.median(self.rounds_s)


def measure(counts: tuple[int, ...], rounds: int, data: Path | None) -> list[Cost]:
    """Every tool at every count, ``rounds`` times."""
    from benchmarks import models  # loads PyTorch, which must not count as memory of the jobs

    jobs = [
        (tool, count) for count in counts for tool in TOOLS if "percentile" not in tool or count <= PERCENTILE_UP_TO
    ]
    seconds: dict[tuple[str, int], list[float]] = {job: [] for job in jobs}
    peak = dict.fromkeys(jobs, 0)
    order = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready, inputs = folder / "ready.onnx", folder / "inputs.npy"
        quantizers.ort_pre_process(models.export(NET, folder), ready)
        models.inputs(NET, max(counts), data=data, path=inputs)
        for number in range(1, rounds + 1):
            for tool, count in order.sample(jobs, len(jobs)):
                took, own = _in_a_process(tool, count, ready, inputs)
                seconds[tool, count].append(took)
                peak[tool, count] = max(peak[tool, count], own)
                print(f"round {number}: {tool}, {count} images: {took:.1f} s, {own / MB:.0f} MB", file=sys.stderr)
    return [
        Cost(tool=tool, images=count, rounds_s=seconds[tool, count], own_bytes=peak[tool, count])
        for tool, count in jobs
    ]


def _in_a_process(tool: str, count: int, model: Path, inputs: Path) -> tuple[float, int]:
    """Run one job as a child; its seconds, and the peak of its own memory in bytes."""
    command = [sys.executable, "-m", "benchmarks.calibration", "--job", tool, str(count), str(model), str(inputs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        anonymous = 0
        while child.poll() is None:
            anonymous = max(anonymous, _status_bytes(child.pid, "RssAnon"))
            time.sleep(_WATCH_EVERY_S)
        assert child.stdout is not None
        text = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{tool} on {count} images ended with exit code {child.returncode}.")
    answer = json.loads(text)
    return answer["seconds"], anonymous + answer["libraries_bytes"]


def run_job(tool: str, count: int, model: Path, inputs: Path) -> dict[str, Any]:
    """The child's side: do it, and say how long it took and what the libraries' files hold in memory."""
    samples: dict[str, Array] = {INPUT: np.load(inputs, mmap_mode="r")[:count]}
    started = time.perf_counter()
    TOOLS[tool](model, samples)
    return {"seconds": time.perf_counter() - started, "libraries_bytes": _mapped_files_bytes(besides=inputs)}


def _status_bytes(process: int, key: str) -> int:
    """One figure of /proc/PID/status; 0 for a process that is over."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def _mapped_files_bytes(*, besides: Path) -> int:
    """What this process has resident of mapped files, ``besides`` left out, from /proc/self/smaps.

    The kernel's VmHWM would count every page of the inputs that was read.
    """
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):  # a mapping's head: addresses, rights, offset, device, inode, path
            counts = len(fields) > 5 and fields[5].startswith("/") and fields[5] != str(besides)
        elif counts and fields[0] in ("Rss:", "Anonymous:"):
            # pages of a file that the process wrote to are anonymous: counted already
            total += int(fields[1]) * 1024 * (1 if fields[0] == "Rss:" else -1)
    return total


def _session(model: Path, *, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _count(samples: dict[str, Array]) -> int:
    return len(samples[INPUT])


def _feeds(samples: dict[str, Array], row: int) -> dict[str, Array]:
    return {INPUT: np.ascontiguousarray(samples[INPUT][row : row + 1])}


def ratios(costs: list[Cost]) -> dict[str, Any]:
    """How many times as long as nnx each tool takes on the same images, with its 95 % interval; for the inference
    tools the other way round: nnx over inference alone."""
    found = {}
    for cost in costs:
        nnx = next(other for other in costs if other.tool == "nnx" and other.images == cost.images)
        mine, theirs = [[second] for second in nnx.rounds_s], [[second] for second in cost.rounds_s]
        if cost.tool.startswith("inference"):
            found[f"nnx / {cost.tool}, {cost.images}"] = asdict(ratio_of_medians(mine, theirs))
        elif cost.tool != "nnx":
            found[f"{cost.tool} / nnx, {cost.images}"] = asdict(ratio_of_medians(theirs, mine))
    own = {cost.images: cost.own_bytes for cost in costs if cost.tool == "nnx"}
    found["nnx own memory, most images / fewest"] = {"estimate": own[max(own)] / own[min(own)]}
    return found


def table(costs: list[Cost]) -> str:
    counts = sorted({cost.images for cost in costs})
    by_job = {(cost.tool, cost.images): cost for cost in costs}
    rows = []
    for tool in TOOLS:
        of_tool = [by_job.get((tool, count)) for count in counts]
        rows.append(
            [tool, *(f"{cost.seconds:.1f} s, {cost.own_bytes / MB:,.0f} MB" if cost else "–" for cost in of_tool)]
        )
    return markdown_table([f"{NET}, images", *(f"{count:,}" for count in counts)], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_option(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few images, one round: does it work?")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        tool, count, model, inputs = options.job
        print(json.dumps(run_job(tool, int(count), Path(model), Path(inputs))))
        return 0
    counts, rounds = (QUICK_COUNTS, 1) if options.quick else (COUNTS, options.rounds)
    costs = measure(counts, rounds, options.data)
    facts = {"net": NET, "data": str(options.data or "noise"), "costs": [asdict(cost) for cost in costs]}
    keep(options.out / "calibration.json", {**facts, "ratios": ratios(costs)}, table(costs))
    print(f"{table(costs)}\n\nThe figures lie in {options.out}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
