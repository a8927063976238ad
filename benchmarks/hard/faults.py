"""A disk that fails, and signals, at many points of a run: the file is whole or absent, the exit code tells the truth.

Points are the audit events (PEP 578) of one command: every file opened, renamed, removed or made. At a seeded one the
disk is full (ENOSPC) or broken (EIO), or a signal comes.
"""

import errno
import functools
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.hard.base_models import BASES
from benchmarks.hard.runs import Place, Run, watched
from benchmarks.hard.verdicts import Kind, Verdict

PART = "faults"
COUNT = 200
COMMANDS = {
    "static": ("quantize", "model.onnx", "--int8", "--calibration", "calib.npz", "--no-time"),
    "dynamic": ("quantize", "model.onnx", "--int8", "--mode", "dynamic", "--no-time"),
    "int4": ("quantize", "model.onnx", "--int4", "--no-time", "--eval", "calib.npz"),
    "fp16": ("convert", "model.onnx", "--fp16", "--calibration", "calib.npz"),
}
_EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}
)
_CODES = {
    "ENOSPC": {3}, "EIO": {3}, "SIGINT": {130}, "SIGTERM": {128 + signal.SIGTERM},
    "SIGKILL": {-signal.SIGKILL, 3},  # 3 where a parent is left to tell of it
}  # fmt: skip
_OLD = b"the file that was there before"
_SECONDS = 60.0


def of_number(number: int) -> list[Verdict]:
    """One fault at one point of one command, beside an older file of the result's name."""
    draw = random.Random(number)
    mode, what = draw.choice(sorted(COMMANDS)), draw.choice(sorted(_CODES))
    with Place.new() as place:
        watched(lambda: _write(place.here), place)
        points = _points(mode)
        point = draw.randrange(points)
        made = place.here / "made.onnx"
        made.write_bytes(_OLD)
        run = _run(place, mode, _at(point, what))
        why = _wrong(run, what, made) or _wrong_after(place, mode, what, made)
        kind = Kind.FAULT if why else Kind.RIGHT if run.code == 0 else Kind.REFUSED
        name = f"{number} {mode} {what} at {point} of {points}"
        return [Verdict(part=PART, name=name, kind=kind, why=why or str(run.code), command=run.command)]


def _write(folder: Path) -> int:
    base = BASES["products"]()
    onnx.save(base.model, folder / "model.onnx")
    np.savez(folder / "calib.npz", allow_pickle=False, **base.samples)
    return 0


def _run(place: Place, mode: str, before: Callable[[], None] | None) -> Run:
    makes = ("made.onnx",)
    return place.nnx(*COMMANDS[mode], "-o", "made.onnx", makes=makes, seconds=_SECONDS, before=before)


@functools.cache
def _points(mode: str) -> int:
    """How many events one run of a command has."""
    with Place.new() as place:
        watched(lambda: _write(place.here), place)
        count = place.folder / "count"
        _run(place, mode, lambda: _counting(count))
        return max(1, count.stat().st_size)


def _counting(path: Path) -> None:
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    _hook(lambda: os.write(handle, b"."))


def _at(point: int, what: str) -> Callable[[], None]:
    def act() -> None:
        if what.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[what])
        else:
            raise OSError(getattr(errno, what), os.strerror(getattr(errno, what)), "a file")

    def before() -> None:
        left = [point]

        def step() -> None:
            left[0] -= 1
            if left[0] == -1:
                act()

        _hook(step)

    return before


def _hook(step: Callable[[], object]) -> None:
    """Call ``step`` at each event on what lies outside Python's own installation."""
    tempfile.gettempdir()  # Python tries the folder with a file of its own, which nobody could remove for it
    own = (sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev", str(Path(onnx.__file__).parents[1]))

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and not str(arguments[0]).startswith(own) and not isinstance(arguments[0], int):
            step()

    sys.addaudithook(audit)


def _wrong(run: Run, what: str, made: Path) -> str:
    if run.stopped:
        return f"stopped for its {run.stopped}"
    if run.code not in {0, *_CODES[what]}:
        return f"exit code {run.code}: {run.traceback_end or run.err[-200:]}"
    if run.code and not what.startswith("SIG") and "nnx:" not in run.err:
        return "not a word about it"
    if run.left and what != "SIGKILL":
        return f"left {', '.join(run.left)}"
    if not made.exists():
        return "the older file is gone"
    if made.read_bytes() != _OLD:
        try:
            onnx.checker.check_model(made)
        except Exception as error:  # noqa: BLE001 - whatever onnx says of half a file
            return f"the file is not whole: {error}"
        return (
            ""
            if run.code in (0, *_CODES["SIGKILL"], *_CODES["SIGINT"], *_CODES["SIGTERM"])
            else "failed, and yet replaced"
        )
    return "said that it was done, and left the older file" if run.code == 0 else ""


def _wrong_after(place: Place, mode: str, what: str, made: Path) -> str:
    """A killed run's leftovers go at the next one, which succeeds."""
    if what != "SIGKILL":
        return ""
    before = {path for root in (place.here, place.tmp) for path in root.rglob("*")}
    again = _run(place, mode, None)
    if again.code:
        return f"the next run ends with {again.code}: {again.err[-200:]}"
    kept = {place.here / name for name in ("model.onnx", "calib.npz", "made.onnx")}
    left = sorted(str(path) for path in before - kept if path.exists())
    shutil.rmtree(place.tmp, ignore_errors=True)
    return f"the next run leaves {', '.join(left)}" if left or not made.exists() else ""
