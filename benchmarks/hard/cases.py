"""Scripts of a folder that write a hard model each: every command that a script prints, and the four conversions.

A script `NAME.py` writes `model.onnx`, and `calib.npz` where it has calibration data, into the current folder, and
prints the commands to try; its function of the same name returns the model, the calibration data and held-back feeds.
"""

import json
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hard import comparing, verdicts
from benchmarks.hard.runs import Place, watched
from benchmarks.hard.verdicts import Kind, Verdict

PART = "cases"
MODES = {
    "static": ("quantize", "model.onnx", "--int8", "--calibration", "calib.npz", "--no-time"),
    "dynamic": ("quantize", "model.onnx", "--int8", "--mode", "dynamic", "--no-time"),
    "int4": ("quantize", "model.onnx", "--int4", "--no-time"),
    "fp16": ("convert", "model.onnx", "--fp16"),
}
_SECONDS = 60.0  # a printed bench measures for two seconds a row
_WRITING_S = 300.0


def scripts(folder: Path, *, large: bool) -> list[Path]:
    return [path for path in sorted((folder / "files").glob("*.py")) if large or path.stem != "over_2gb"]


def of_script(script: Path) -> list[Verdict]:
    """Run the script, then its commands, and judge each file that they make."""
    with Place.new() as place:
        code, *_ = watched(lambda: _write(script), place, seconds=_WRITING_S)
        if code or not (place.here / "model.onnx").exists():
            why = f"the script itself fails: exit code {code}"
            return [Verdict(part=PART, name=script.stem, kind=Kind.WRONG, why=why, command=f"python {script.name}")]
        return list(_verdicts(script, place))


def _verdicts(script: Path, place: Place) -> Iterator[Verdict]:
    for mode, command in _commands(place).items():
        made = f"{mode}.onnx"
        makes = () if command[0] == "bench" else (made,)
        run = place.nnx(*command, *(("-o", made) if makes else ()), makes=makes, seconds=_SECONDS)
        path = place.here / made
        judge = partial(written, path, partial(_judge, script, place, path)) if makes else None
        yield verdicts.of(run, part=PART, name=f"{script.stem} {mode}", judge=judge, made=path.exists())


def _write(script: Path) -> int:
    sys.argv = [script.name]
    runpy.run_path(str(script), run_name="__main__")
    return 0


def _commands(place: Place) -> dict[str, tuple[str, ...]]:
    """By mode: those that the script printed without their output, then the four that it did not."""
    printed = re.findall(
        r"^ +nnx (.+)$", (place.folder / "out").read_text(encoding="utf-8", errors="replace"), re.MULTILINE
    )
    found: dict[str, tuple[str, ...]] = {}
    for line in printed:
        words = shlex.split(line)
        if "-o" in words:
            del words[words.index("-o") : words.index("-o") + 2]
        mode = _mode(words)
        while mode in found:
            mode += "-again"
        found[mode] = tuple(words)
    calibrated = (place.here / "calib.npz").exists()
    return found | {
        mode: command
        for mode, command in MODES.items()
        if mode not in found and (calibrated or "calib.npz" not in command)
    }


def _mode(words: list[str]) -> str:
    if words[0] == "quantize":
        return "int4" if "--int4" in words else "static" if "--calibration" in words else "dynamic"
    data = "-eval" if "--eval" in words else "-calibrated" if "--calibration" in words else ""
    return f"fp16{data}" if words[0] == "convert" else words[0]


def _judge(script: Path, place: Place, made: Path) -> str:
    """On the held-back feeds; on the calibration data besides, where they run, for channels want many values."""
    source, calibration = place.here / "model.onnx", _calibration(place.here / "calib.npz")
    feeds = [*feeds_of(script), *(feed for feed in calibration if comparing.runs(source, feed))]
    return comparing.compare(source, made, feeds, half=made.name.startswith("fp16"))


def written(made: Path, judge: Callable[[], str]) -> str:
    """What ``judge`` says of a file, in a process of its own beside the file, as every session."""
    if not made.exists():
        return "exit code 0 and no file"

    with Place.new() as aside:

        def act() -> int:
            os.chdir(made.parent)
            print(json.dumps(judge()))
            return 0

        code, *_ = watched(act, aside, seconds=_WRITING_S)
        if code:
            return f"judging it ends with {code}: {(aside.folder / 'err').read_text(encoding='utf-8')[-300:]}"
        return str(json.loads((aside.folder / "out").read_text(encoding="utf-8").splitlines()[-1]))


def feeds_of(script: Path) -> list[dict[str, Any]]:
    """The held-back feeds of a script's function of its own name; none where it has no such function."""
    with tempfile.TemporaryDirectory() as aside, chdir(aside):  # some write their model when they are asked
        factory = runpy.run_path(str(script), run_name="case").get(script.stem)
        held = None if factory is None else factory()[2]
    return [held] if isinstance(held, dict) else list(held or ())


def _calibration(path: Path) -> list[dict[str, Any]]:
    with suppress(OSError), np.load(path) as arrays:
        return [dict(arrays)]
    return []
