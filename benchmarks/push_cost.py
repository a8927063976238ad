"""`make push-cost`: `nnx push` of a package of 92 MB over a real sshd on loopback, beside plain scp of the same folder.

All take turns, into folders that are empty. scp neither tests what arrives nor flushes it to the disk, so it has a row
with `sync` behind it too; of nnx there are rows with and without a Python that the package can test itself with.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import loopback_sshd
from benchmarks.results import OUT, keep
from toolchain import stats
from toolchain.bench.report import markdown_table
from toolchain.shipping import device, pushing

_WIDTH, _LAYERS = 1024, 22
_TARGETS = 20
_NNX = [sys.executable, "-m", "toolchain", "push"]
_NO_PYTHON = "SetEnv PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
"""None that has onnxruntime, unless the command names one."""
_FIRST, _FLUSHED = "scp", "scp, then sync"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="two turns, to see that it works")
    parser.add_argument("--only", choices=("turns", "steps", "targets"), help="one part alone")
    parser.add_argument("--out", type=Path, default=OUT / "push-cost.json")
    options = parser.parse_args()
    with TemporaryDirectory(dir=Path.cwd()) as name:  # a disk, where /tmp may be none
        place = Path(name)
        packages = [packed(place / version, changed=version == "b") for version in "ab"]
        (place / "ssh").mkdir()
        with loopback_sshd.serving(place / "ssh", settings=_NO_PYTHON) as programs:
            os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
            found: dict[str, Any] = {}
            if options.only in (None, "turns"):
                found["turns"] = in_turns(place, packages, 2 if options.quick else options.turns)
            if options.only in (None, "steps"):
                found["steps"] = steps(place, packages)
            if options.only in (None, "targets"):
                found["targets"] = at_once(place, packages)
    table = "\n\n".join(_tables(found))
    keep(options.out, found, table)
    print(f"{table}\n\nAll of it lies in {options.out}.")
    return 0


def packed(folder: Path, *, changed: bool) -> Path:
    """A package of a deep net; ``changed`` gives it another head: the last 8 kB of its weights."""
    random, nodes, weights = np.random.default_rng(0), [], []
    for number in range(_LAYERS):
        weight = (random.normal(size=(_WIDTH, _WIDTH)) / _WIDTH**0.5).astype(np.float32)
        if changed and number == _LAYERS - 1:
            weight[-2:] /= 2
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [f"h{number}", f"w{number}"], [f"h{number + 1}"]))
    ends = [helper.make_tensor_value_info(f"h{each}", TensorProto.FLOAT, ["batch", _WIDTH]) for each in (0, _LAYERS)]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:], weights)
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "deep.onnx"
    )
    package = folder / "deep.ortpackage"
    command = [sys.executable, "-m", "toolchain", "pack", str(folder / "deep.onnx"), "-o", str(package)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return package


def in_turns(place: Path, packages: list[Path], turns: int) -> dict[str, Any]:
    """Seconds of each command, a turn after the other."""
    first, second = packages
    tested = ["--python", sys.executable]
    rows: dict[str, Callable[[Path], list[list[str]]]] = {
        _FIRST: lambda at: [["scp", "-q", "-r", str(first), f"device:{at}"]],
        _FLUSHED: lambda at: [["scp", "-q", "-r", str(first), f"device:{at}"], ["sync", "-f", str(at)]],
        "push": lambda at: [[*_NNX, str(first), f"ssh://device{at}"]],
        "push, tested there": lambda at: [[*_NNX, str(first), f"ssh://device{at}", *tested]],
        "push of a changed head": lambda at: [[*_NNX, str(second), f"ssh://device{at}"]],
        "push of a changed head, tested there": lambda at: [[*_NNX, str(second), f"ssh://device{at}", *tested]],
    }
    took: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(turns + 1):  # the first fills the disk's cache
        for name in sorted(rows, key=list(rows).index, reverse=bool(turn % 2)):
            with _empty(place / "device") as at:
                if "changed" in name:
                    _run(rows["push"](at)[0])
                os.sync()  # what was there before is nobody's to flush
                started = time.monotonic()
                for command in rows[name](at):
                    _run(command)
                if turn:
                    took[name].append(time.monotonic() - started)
    return {name: {"seconds": each, "over_scp": _ratio(each, took[_FIRST])} for name, each in took.items()}


def _ratio(seconds: list[float], other: list[float]) -> dict[str, float]:
    ratio = stats.ratio_of_medians([[each] for each in seconds], [[each] for each in other])
    return {"value": ratio.estimate, "low": ratio.low, "high": ratio.high}


def steps(place: Path, packages: list[Path]) -> dict[str, list[tuple[str, float]]]:
    """Where the time of a push goes: a line of seconds a step that the device is asked for."""
    found: dict[str, list[tuple[str, float]]] = {}
    names = ("push, tested there", "push of a changed head, tested there")
    with _empty(place / "device") as at:
        for name, package in zip(names, packages, strict=True):
            os.sync()
            with _clocked() as clock:
                target = device.target(f"ssh://device{at}")
                (outcome,) = pushing.push(package, [target], pushing.Manner(python=sys.executable))
            if not outcome.done:
                raise SystemExit(outcome.why)
            found[name] = [*clock, ("in all", sum(seconds for _, seconds in clock))]
    return found


@contextmanager
def _clocked() -> Iterator[list[tuple[str, float]]]:
    """Each step that a device is asked for, and the seconds from the answer before to its own."""
    lines, asked, before = list[tuple[str, float]](), list[str](), [time.monotonic()]
    send, answer = device.Connection.send, device.Connection.answer

    def clocked_send(self: device.Connection, step: str, content: Iterable[bytes] = ()) -> None:
        asked.append(step.partition(" ")[0])
        send(self, step, content)

    def clocked_answer(self: device.Connection) -> list[str]:
        said = answer(self)
        now = time.monotonic()
        lines.append((asked.pop(0) if asked else "the package read, ssh through", now - before[0]))
        before[0] = now
        return said

    device.Connection.send, device.Connection.answer = clocked_send, clocked_answer  # type: ignore[method-assign]
    try:
        yield lines
    finally:
        device.Connection.send, device.Connection.answer = send, answer  # type: ignore[method-assign]


def at_once(place: Path, packages: list[Path]) -> dict[str, Any]:
    """Many targets in one push, beside as many scp at once."""
    found: dict[str, Any] = {"targets": _TARGETS}
    with _empty(place / "devices") as at:
        os.sync()
        started = time.monotonic()
        copies = [subprocess.Popen(["scp", "-q", "-r", packages[0], f"device:{at}{each}"]) for each in range(_TARGETS)]
        if any(copy.wait() for copy in copies):
            raise SystemExit("scp failed")
        found["scp_s"] = time.monotonic() - started
        os.sync()
        found["scp_flushed_s"] = time.monotonic() - started
    with _empty(place / "devices") as at:
        for name, package in zip(("first_s", "changed_head_s"), packages, strict=True):
            os.sync()
            started = time.monotonic()
            told = _run([*_NNX, str(package), *(f"ssh://device{at}{each}" for each in range(_TARGETS)), "--json"])
            found[name] = time.monotonic() - started
            if not all(each["done"] for each in json.loads(told)["targets"]):
                raise SystemExit(told)
    return found


@contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder / "it"
    finally:
        shutil.rmtree(folder)


def _run(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"exit code {ended.returncode}: {' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def _tables(found: dict[str, Any]) -> Iterator[str]:
    if "turns" in found:
        lines = []
        for name, row in found["turns"].items():
            ratio, middle = row["over_scp"], stats.percentile(row["seconds"], 50)
            lines.append([name, f"{middle:.2f}", f"{ratio['value']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"])
        yield markdown_table(["command", "s", "over scp"], lines)
    for name, parts in found.get("steps", {}).items():
        yield markdown_table([name, "s"], [[step, f"{seconds:.3f}"] for step, seconds in parts])
    if "targets" in found:
        many = found["targets"]
        names = {
            "scp_s": "scp, all at once",
            "scp_flushed_s": "scp, then sync",
            "first_s": "push",
            "changed_head_s": "push of a changed head",
        }
        lines = [[name, f"{many[key]:.1f}"] for key, name in names.items()]
        yield markdown_table([f"{many['targets']} targets", "s"], lines)


if __name__ == "__main__":
    raise SystemExit(main())
