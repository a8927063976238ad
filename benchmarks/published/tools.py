"""What is tried on each model: nnx's command as a user calls it, ONNX Runtime's function; each in its own process."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.hard.runs import Place, Run, watched
from benchmarks.published import onnx_runtime

_INT8 = ("quantize", "--int8", "--no-time", "--target", "x86-vnni")
"""For the processor that results are judged by, which sums up products exactly, as ONNX Runtime's quantizers assume."""
NNX = {
    "dynamic": (*_INT8, "--mode", "dynamic"),
    "static": (*_INT8, "--calibration", "calibration.npz", "--eval", "held_back.npz"),
    "int4": ("quantize", "--int4", "--no-time"),
    "fp16": ("convert", "--fp16"),
}
"""Mode -> the command that makes a file, which runs in the folder of the samples."""
LOOKS = {
    "inspect": ("inspect",),
    "check": ("check",),
    "bench": ("bench", "--max-time", "3s", "--samples", "held_back.npz"),
}
"""Mode -> the command that tells of the model as it is; its own codes beside 0 are in ``MAY_END``."""
MAY_END = {"inspect": {0}, "check": {0, 1}, "bench": {0}}
ONNX_RUNTIME = {"dynamic": onnx_runtime.dynamic, "static": onnx_runtime.static}
MEMORY_BYTES = 8 << 30
_LAST = 300


@dataclass(frozen=True, kw_only=True)
class Tried:
    """How a tool went; ``says`` is its last word where it made no file. ``code`` is 124 for one that took too long."""

    tool: str
    mode: str
    code: int
    seconds: float
    says: str = ""
    traceback: bool = False
    size_bytes: int = 0


def nnx(mode: str, model: Path, made: Path, place: Place, *, seconds: float) -> Tried:
    verb, *options = NNX[mode]
    run = place.nnx(
        verb, str(model), *options, "-o", str(made), makes=(made.name,), seconds=seconds, memory_bytes=MEMORY_BYTES
    )
    return Tried(
        tool="nnx", mode=mode, code=124 if run.stopped else run.code, seconds=run.seconds, says=_last_word(run),
        traceback=bool(run.traceback_end), size_bytes=_size(run.code, made),
    )  # fmt: skip


def look(mode: str, model: Path, place: Place, *, batch: int, seconds: float) -> Tried:
    """A command that makes no file; ``says`` is what it says where its code is not 0. ``batch`` is what is timed."""
    verb, *options = LOOKS[mode]
    options += ["--batch", str(batch)] if mode == "bench" else []
    run = place.nnx(verb, str(model), *options, seconds=seconds, memory_bytes=MEMORY_BYTES)
    return Tried(
        tool="nnx", mode=mode, code=124 if run.stopped else run.code, seconds=run.seconds,
        says=_last_word(run) or (" ".join(run.out.split())[:_LAST] if run.code else ""),
        traceback=bool(run.traceback_end),
    )  # fmt: skip


def others(mode: str, model: Path, made: Path, place: Place, *, seconds: float) -> Tried:
    """ONNX Runtime's own, on the same calibration data."""
    act = partial(ONNX_RUNTIME[mode], model, made)
    code, took, _, stopped = watched(act, place, seconds=seconds, memory_bytes=MEMORY_BYTES)
    err = (place.folder / "err").read_text(encoding="utf-8", errors="replace").strip()
    return Tried(
        tool="onnxruntime", mode=mode, code=124 if stopped else code, seconds=took, size_bytes=_size(code, made),
        says=err.splitlines()[-1][:_LAST] if code and err else "",
    )  # fmt: skip


def _size(code: int, made: Path) -> int:
    """With the external data beside it."""
    with suppress(OSError):
        return 0 if code else sum(path.stat().st_size for path in made.parent.glob(f"{made.name}*"))
    return 0


def _last_word(run: Run) -> str:
    """nnx's own sentences, from "nnx:" on."""
    if not run.code:
        return ""
    lines = [line.strip() for line in run.err.splitlines() if line.strip()] or [""]
    start = next((place for place, line in enumerate(lines) if line.startswith(("nnx:", "Error:"))), len(lines) - 1)
    return " ".join(lines[start:])[:_LAST]
