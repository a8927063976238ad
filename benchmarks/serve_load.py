"""`nnx serve` under load: throughput beside bare session.run, p99, 100,000 answers that are all judged, memory.

    make serve-load

wrk (apt-get install wrk) asks, in one thread, over 1, 8 and 32 connections without a pause; its Lua holds each answer
against the golden one within the package's tolerance. Rounds of it take turns with rounds of session.run at batch 1 and
8 in a bare process. Two nets: the SST-2 perceptron, whose calls of 0.1 ms show what a request costs, and MobileNetV2,
with bodies of 600 kB. Client and server share the machine's cores, as the bare loop does not. Leaves serve_load.json
and serve_load.md in artifacts/benchmarks, and exits with 1 for a wrong, refused or lost answer, or memory that grows.
"""

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CONNECTIONS = (1, 8, 32)
BATCHES = (1, 8)
BESIDE = {1: 1, 8: 8, 32: 8}
"""Connections -> the batch of session.run that they are compared with."""
SOAK = 32
GROWTH_MB = 10.0
"""What the process may grow by over all answers after the first tenth: arenas and pools are full by then."""
_LUA = Path(__file__).with_suffix(".lua")


class Server:
    """`nnx serve` on a free port."""

    def __init__(self, package: Path, *arguments: object) -> None:
        command = [sys.executable, "-m", "toolchain", "serve", str(package), "--port", "0", "--json"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(self.process.communicate()[1])
        self.url = str(json.loads(line)["url"])

    def memory_mb(self) -> float:
        """What it holds, without what was only looked at."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s*(\d+)", status)
        return int(found[1]) / 1024 if found else float("nan")

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=120)
        return self.process.returncode


def write_cases(package: Path, folder: Path) -> Path:
    """The Lua table of requests and of what each must be answered, golden inputs of one sample each."""
    from toolchain.serving.tensors import DATATYPES
    from toolchain.shipping import golden_values
    from toolchain.shipping import package as packages

    values = golden_values.read(package, packages.read(package).variants[0].name)
    lines = []
    for number, (call, outputs) in enumerate(zip(values.calls[: values.singles], values.outputs, strict=False), 1):
        ((output, want),) = outputs.items()
        inputs = [
            {
                "name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape),
                "parameters": {"binary_data_size": array.nbytes},
            }
            for name, array in call.items()
        ]  # fmt: skip
        asked = {"id": str(number), "parameters": {"binary_data_output": True}, "inputs": inputs}
        header = json.dumps(asked).encode()
        body = header + b"".join(array.tobytes() for array in call.values())
        told = {"body": body, "golden": want.astype(np.float32).tobytes()}
        for name, content in told.items():
            (folder / f"{number}.{name}").write_bytes(content)
        fields = [f'{name} = content("{folder / f"{number}.{name}"}")' for name in told]
        fields += [f"length = {len(header)}", f"tolerance = {values.tolerances[output].absolute!r}"]
        lines.append("{ " + ", ".join(fields) + " },")
    read = 'local function content(path) local f = assert(io.open(path, "rb")); return f:read("*a") end'
    script = folder / "cases.lua"
    script.write_text("\n".join([read, "return {", *lines, "}"]) + "\n")
    return script


def load(url: str, cases: Path, *, connections: int, seconds: int) -> dict[str, Any]:
    """What wrk saw; ``lost`` are requests without an answer beyond those that were on their way when it stopped."""
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "30s", "--script", str(_LUA), f"{url}/infer", "--", str(cases)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told | {
        "lost": max(0, told["sent"] - told["answered"] - connections) + told["errors"],
        "per_s": told["answered"] / told["seconds"],
    }


@contextlib.contextmanager
def bare(package: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs the package's model when it is asked to."""
    command = [sys.executable, __file__, "--bare", str(package)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def run_bare(process: "subprocess.Popen[str]", batch: int, seconds: float) -> float:
    """Samples a second."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{batch} {seconds}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def serve_bare(package: Path) -> None:
    """The loop that anybody would write."""
    import onnxruntime

    from toolchain.shipping import golden_values
    from toolchain.shipping import package as packages

    variant = packages.read(package).variants[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(package / variant.model, options, providers=["CPUExecutionProvider"])
    call = golden_values.read(package, variant.name).calls[0]
    for line in sys.stdin:
        batch, seconds = int(line.split()[0]), float(line.split()[1])
        feeds = {name: np.concatenate([array] * batch) for name, array in call.items()}
        session.run(None, feeds)
        started, runs = time.perf_counter(), 0
        while time.perf_counter() < started + seconds:
            session.run(None, feeds)
            runs += 1
        print(runs * batch / (time.perf_counter() - started), flush=True)


def packed(name: str, folder: Path) -> Path:
    """A package of one of the benchmarks' nets."""
    from benchmarks import models
    from toolchain.shipping import contents, packing
    from toolchain.shipping.packing import Title

    np.savez(folder / "samples.npz", **models.inputs(name, 16))  # type: ignore[arg-type]
    given = contents.of_models([models.export(name, folder)], samples_source=str(folder / "samples.npz"))
    return packing.pack(given, folder / f"{name}.ortpackage", Title(name=name)).path


def measure(package: Path, *, rounds: int, seconds: int, answers: int) -> dict[str, Any]:
    """Rounds in turns, then as many answers as asked for at one go."""
    with tempfile.TemporaryDirectory() as folder, bare(package) as process:
        cases = write_cases(package, Path(folder))
        server = Server(package, "--threads", 1)
        try:
            load(server.url, cases, connections=SOAK, seconds=1)
            samples: dict[str, list[float]] = {f"bare {batch}": [] for batch in BATCHES}
            loads: dict[int, list[dict[str, Any]]] = {count: [] for count in CONNECTIONS}
            for _ in range(rounds):
                for batch in BATCHES:
                    samples[f"bare {batch}"].append(run_bare(process, batch, seconds))
                for count in CONNECTIONS:
                    loads[count].append(load(server.url, cases, connections=count, seconds=seconds))
            soak = soaked(server, cases, answers) if answers else None
        finally:
            code = server.stop()
    return {"bare": samples, "loads": {str(count): found for count, found in loads.items()}, "soak": soak, "exit": code}


def soaked(server: Server, cases: Path, answers: int) -> dict[str, Any]:
    """All of them judged; memory after a tenth, and at the end."""
    totals = dict.fromkeys(("answered", "refused", "wrong", "lost"), 0)
    memory: list[float] = []
    while totals["answered"] < answers:
        told = load(server.url, cases, connections=SOAK, seconds=2)
        if not told["answered"]:
            raise SystemExit("The server does not answer.")
        for name in totals:
            totals[name] += told[name]
        if totals["answered"] > answers / 10:
            memory.append(server.memory_mb())
    return {**totals, "memory_mb": memory}


def ratio(found: Mapping[str, Any], connections: int) -> Any:
    """Throughput over that of bare session.run, with its interval."""
    from toolchain.stats import ratio_of_medians

    served = [[each["per_s"]] for each in found["loads"][str(connections)]]
    return ratio_of_medians(served, [[each] for each in found["bare"][f"bare {BESIDE[connections]}"]])


def faults(name: str, found: Mapping[str, Any]) -> list[str]:
    told = []
    loads = [each for row in found["loads"].values() for each in row]
    for kind in ("wrong", "refused", "lost"):
        if count := sum(each[kind] for each in loads) + (found["soak"] or {kind: 0})[kind]:
            told.append(f"{name}: {count} answers {kind}")
    if found["exit"]:
        told.append(f"{name}: it ended with {found['exit']}")
    if found["soak"] and (grown := found["soak"]["memory_mb"][-1] - found["soak"]["memory_mb"][0]) > GROWTH_MB:
        told.append(f"{name}: it grew by {grown:.1f} MB")
    return told


def table(results: Mapping[str, Any]) -> str:
    lines = [
        "| | session.run, batch 1 | batch 8 | connections | answers/s | over bare (97 %) | p50, ms | p99, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        for count in CONNECTIONS:
            rows, whole = found["loads"][str(count)], ratio(found, count)
            alone = [f"{median(found['bare'][f'bare {batch}']):,.0f}/s" for batch in BATCHES]
            per_s, p50, p99 = (median(each[key] for each in rows) for key in ("per_s", "p50_ms", "p99_ms"))
            share = f"{whole.estimate:.2f}x batch {BESIDE[count]} ({whole.low:.2f}–{whole.high:.2f})"
            lines.append(f"| {name} | {' | '.join(alone)} | {count} | {per_s:,.0f} | {share} | {p50:.2f} | {p99:.2f} |")
    for name, found in results.items():
        if soak := found["soak"]:
            told = ", ".join(f"{soak[kind]} {kind}" for kind in ("wrong", "refused", "lost"))
            memory = f"{soak['memory_mb'][0]:.1f} MB after a tenth of them, {soak['memory_mb'][-1]:.1f} MB at the end"
            lines += ["", f"{name}: {soak['answered']:,} answers over {SOAK} connections, {told}; memory {memory}."]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth: to see that it works")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        serve_bare(given.bare)
        return 0
    if shutil.which("wrk") is None:
        raise SystemExit("There is no wrk: apt-get install wrk.")
    from benchmarks import results

    rounds, seconds, answers = (2, 1, 10_000) if given.quick else (12, 2, 100_000)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("sst2", answers), ("mobilenetv2", 0)):
            found[name] = measure(packed(name, Path(folder)), rounds=rounds, seconds=seconds, answers=count)
            results.keep(results.OUT / "serve_load.json", {"results": found}, table(found))
    print(table(found))
    wrong = [each for name, measured in found.items() for each in faults(name, measured)]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.exit(main())
