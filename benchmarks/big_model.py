"""`make big-model`: the memory and the seconds that each command takes on a model of 2.5 GB.

Every step is the real command in a process of its own. What counts as memory is what the process and those that it
started have resident: ``held`` is theirs alone (anonymous and shared memory), ``mapped`` pages of files, which the
kernel takes back when it wants them, libraries and weights alike. Both are asked of /proc every 20 ms and are the
highest sums over the processes; the peak that the kernel noted of one process (VmHWM) counts where it is higher.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.big_net import SIDE
from benchmarks.results import OUT, keep
from exporters import provenance
from exporters.model_file import ModelFile
from toolchain.bench.report import markdown_table

_EVERY_S = 0.02
_NET = Path(__file__).with_name("big_net.py")
_BLOCKS, _WIDTHS = 3, {"full": 4160, "quick": 1024}
_NEEDS = {"bench": ("int8 dynamic",), "report": ("int8 dynamic", "bench")}
_PAIR = ("--external-data", "always")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes: the most that was ``held``, and the most that was held and ``mapped`` together."""

    held: int = 0
    resident: int = 0

    def most(self, other: "Memory") -> "Memory":
        return Memory(held=max(self.held, other.held), resident=max(self.resident, other.resident))


@dataclass(frozen=True, kw_only=True)
class Step:
    """How one command went, and the bytes of the files that it made."""

    name: str
    command: str
    code: int
    seconds: float
    held_bytes: int
    resident_bytes: int
    made_bytes: int
    says: str


def steps(width: int) -> dict[str, tuple[str, ...]]:
    """Each step's command; they run in one folder, in this order."""
    shape = f"image=float32[batch,3,{SIDE},{SIDE}]"
    int8 = ("quantize", "model.onnx", "--int8", "--no-time", *_PAIR)
    return {
        "export": ("export", f"{_NET}:make", "--arg", f"width={width}", "--arg", f"blocks={_BLOCKS}",
                   "--input", shape, "-o", "model.onnx", *_PAIR),
        "inspect": ("inspect", "model.onnx"),
        "check": ("check", "model.onnx"),
        "fp16": ("convert", "model.onnx", "--fp16", "-o", "fp16.onnx", *_PAIR),
        "bf16": ("convert", "model.onnx", "--bf16", "-o", "bf16.onnx", *_PAIR),
        "int8 dynamic": (*int8, "--mode", "dynamic", "-o", "dynamic.onnx"),
        "int8 static": (*int8, "--calibration", "images.npz", "--no-cache", "-o", "static.onnx"),
        "int4": ("quantize", "model.onnx", "--int4", "--no-time", "-o", "int4.onnx", *_PAIR),
        "explain": ("explain", "model.onnx"),
        "bench": ("bench", "model.onnx", "dynamic.onnx", "--batch", "1", "--max-time", "20s", "-o", "bench.json"),
        "report": ("report", "bench.json", "-o", "page.html"),
    }  # fmt: skip


def measured(name: str, arguments: tuple[str, ...], folder: Path) -> Step:
    """Run one command in ``folder`` and watch its memory."""
    before = set(folder.iterdir())
    started = time.monotonic()
    with (
        (folder / "said").open("wb") as said,
        subprocess.Popen(
            [sys.executable, "-m", "toolchain", *arguments], cwd=folder, stdout=said, stderr=said
        ) as child,
    ):
        most = Memory()
        while child.poll() is None:
            most = most.most(_of_tree(child.pid))
            time.sleep(_EVERY_S)
    made = sum(path.stat().st_size for path in set(folder.iterdir()) - before if path.is_file())
    words = (folder / "said").read_text(encoding="utf-8", errors="replace").split()
    return Step(
        name=name, command=f"nnx {' '.join(arguments)}".replace(f"{_NET.parent}/", ""), code=child.returncode,
        seconds=time.monotonic() - started, held_bytes=most.held, resident_bytes=most.resident, made_bytes=made,
        says=" ".join(words)[-300:] if child.returncode else "",
    )  # fmt: skip


def _of_tree(process: int) -> Memory:
    """Of a process and those that it started, now; resident at least what the kernel noted of one of them."""
    found = [_figures(each) for each in _tree(process)]
    held = sum(each["RssAnon"] + each["RssShmem"] for each in found)
    resident = held + sum(each["RssFile"] for each in found)
    return Memory(held=held, resident=max([resident, *(each["VmHWM"] for each in found)]))


def _tree(process: int) -> Iterator[int]:
    yield process
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from _tree(int(child))


def _figures(process: int) -> dict[str, int]:
    found = dict.fromkeys(("RssAnon", "RssShmem", "RssFile", "VmHWM"), 0)
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            if key in found:
                found[key] = int(value.split()[0]) * 1024
    return found


def table(found: list[Step], size: int) -> str:
    """A line a step: what it held, and what it had resident, in GB and in parts of the model's ``size``."""

    def cell(count: int) -> str:
        return f"{count / 1e9:.2f} GB, {count / size:.2f}"

    rows = [
        [
            step.name, cell(step.held_bytes), cell(step.resident_bytes), f"{step.seconds:.0f}",
            f"{step.made_bytes / 1e6:,.0f} MB" if not step.code else f"exit {step.code}: {step.says}",
        ]
        for step in found
    ]  # fmt: skip
    return markdown_table(["step", "held", "with mapped files", "seconds", "made"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a model of 0.15 GB, to see that it works")
    parser.add_argument("--only", action="append", help="this step, and those before it that it needs; repeatable")
    parser.add_argument("--out", type=Path, default=OUT / "big_model.json")
    options = parser.parse_args()
    width = _WIDTHS["quick" if options.quick else "full"]
    folder = Path(tempfile.mkdtemp(prefix="nnx-big-"))
    found: list[Step] = []
    try:
        images = np.random.default_rng(0).standard_normal((16, 3, SIDE, SIDE)).astype(np.float32)
        np.savez(folder / "images.npz", image=images)
        size = 1
        for name, arguments in _wanted(steps(width), options.only).items():
            found.append(measured(name, arguments, folder))
            size = ModelFile(folder / "model.onnx").size_bytes if not found[0].code else 1
            print(table(found[-1:], size).splitlines()[-1], flush=True)
            facts: dict[str, Any] = {"tools": provenance.tool_versions(), "size_bytes": size}
            keep(options.out, {**facts, "steps": [asdict(step) for step in found]}, table(found, size))
            if found[0].code:
                break
    finally:
        shutil.rmtree(folder)
    print(f"\n{table(found, size)}\n\nA model of {size / 1e9:.3f} GB. All of it lies in {options.out}.")
    return int(any(step.code for step in found))


def _wanted(every: dict[str, tuple[str, ...]], only: list[str] | None) -> dict[str, tuple[str, ...]]:
    if not only:
        return every
    needed = {"export"}.union(only, *(_NEEDS.get(name, ()) for name in only))
    return {name: arguments for name, arguments in every.items() if name in needed}


if __name__ == "__main__":
    raise SystemExit(main())
