"""One architecture along the road: exported, converted, quantized, timed; each file is judged by our own measure."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import beside_torch
from benchmarks.hard import comparing, verdicts
from benchmarks.hard.runs import Place, Run
from benchmarks.published import judging, tools
from benchmarks.published.judging import Nearness
from benchmarks.zoo.architectures import Architecture, Arrays, module_of
from exporters.model_file import ModelFile

CALIBRATION, HELD_BACK = 32, 16
CONVERSIONS = {
    name: tools.NNX[name] if "--eval" in tools.NNX[name] else (*tools.NNX[name], "--eval", "held_back.npz")
    for name in ("fp16", "dynamic", "static", "int4")
}
STEPS = ("export", *CONVERSIONS, "bench")
_MODEL, _TIMES = "model.onnx", "times.json"
_BENCH = ("--batch", "1", "--threads", "1", "--max-time", "1s", "--precision", "50%")
Row = dict[str, Any]


def along(architecture: Architecture, place: Place, *, seconds: float) -> Iterator[Row]:
    """A row for each step; those after a failed export are missing."""
    inputs = [word for text in architecture.inputs for word in ("--input", text)]
    run = _run(place, "export", architecture.source, *inputs, "-o", _MODEL, makes=_MODEL, seconds=seconds)
    made = place.here / _MODEL
    row = _row(architecture, "export", run, made, lambda: unlike(architecture, made))
    yield row
    if row["kind"] != verdicts.Kind.RIGHT:
        return
    random = np.random.default_rng(11)
    for file, count in (("calibration", CALIBRATION), ("held_back", HELD_BACK)):
        arrays: dict[str, Any] = {**architecture.samples(count, random)}
        np.savez(place.here / f"{file}.npz", **arrays)
    files = [_MODEL]
    for step, (verb, *options) in CONVERSIONS.items():
        name = f"{step}.onnx"
        run = _run(place, verb, _MODEL, *options, "-o", name, makes=name, seconds=seconds)
        converted = place.here / name
        near = _near(made, converted) if not run.code else None
        yield _row(architecture, step, run, converted, partial(_lost, near)) | ({} if near is None else asdict(near))
        files += [name] * converted.is_file()
    run = _run(place, "bench", *files, *_BENCH, "-o", _TIMES, makes=_TIMES, seconds=seconds)
    yield _row(architecture, "bench", run, None, lambda: _unmeasured(place.here / _TIMES, len(files)))


def unlike(architecture: Architecture, made: Path) -> str:
    """What is wrong with an export beside a fresh module, at lengths of its dynamic axes; "" for nothing."""
    model = ModelFile(made)
    shapes = {value.name: value.shape for value in model.inputs}
    for spec in architecture.specs:
        if spec.name not in shapes:
            return f"it has no input {spec.name}"
        if (found := tuple(shapes[spec.name])) != spec.shape:
            return f"{spec.name} is {found}, asked was {spec.shape}"
    random = np.random.default_rng(3)
    for lengths in architecture.calls():
        feed = architecture.at(lengths, random)
        right = _of_torch(architecture, feed)
        try:
            ((got,), names) = comparing.outputs(made, [feed])
        except Exception as error:  # noqa: BLE001 - the file that nnx called proven
            return f"at {lengths} it does not run: {' '.join(str(error).split())[:160]}"
        if wrong := beside_torch.unlike(names, right, got, f"at {lengths}"):
            return wrong
    return ""


def _of_torch(architecture: Architecture, feed: Arrays) -> list[np.ndarray[Any, Any]]:
    """The outputs of a fresh module, its lists and pairs taken apart in their order."""
    given: dict[str, Any] = {}
    for name, array in feed.items():
        first, *places = name.split(".")
        value = torch.from_numpy(array)
        if not places:
            given[first] = value
        else:  # past.LAYER.PART
            layers = given.setdefault(first, [])
            layer = int(places[0])
            layers.extend([] for _ in range(layer + 1 - len(layers)))
            layers[layer].append(value)
    with torch.no_grad():
        module = module_of(architecture)
        found = module(**given) if not isinstance(module, torch.nn.Sequential) else module(*given.values())
    return [leaf.numpy() for leaf in torch.utils._pytree.tree_leaves(found)]


def _run(place: Place, *command: str, makes: str, seconds: float) -> Run:
    return place.nnx(*command, makes=(makes,), seconds=seconds, memory_bytes=tools.MEMORY_BYTES)


def _row(architecture: Architecture, step: str, run: Run, made: Path | None, judge: Any) -> Row:
    verdict = verdicts.of(run, part="zoo", name=architecture.name, judge=judge, made=bool(made and made.exists()))
    return {
        "architecture": architecture.name,
        "step": step,
        "kind": str(verdict.kind),
        "why": verdict.why,
        "command": run.command,
        "seconds": round(run.seconds, 1),
        "peak_bytes": run.peak_bytes,
        "size_bytes": made.stat().st_size if made is not None and made.exists() else 0,
        "says": run.err[-600:],
    }


def _near(source: Path, made: Path) -> Nearness:
    if not made.is_file():
        return Nearness(broken="no file was written")
    return judging.nearness(source, made, made.with_name("held_back.npz"))


def _lost(near: Nearness | None) -> str:
    if near is None or near.right:
        return ""
    return near.broken or f"{near.channel} {near.channel_db:.1f} dB, {near.agreement:.0%} of the answers agree"


def _unmeasured(times: Path, count: int) -> str:
    rows = json.loads(times.read_text(encoding="utf-8"))["rows"]
    timed = [row for row in rows if row["status"] == "ok" and any(row["rounds_ms"])]
    return "" if len(timed) == count else f"{len(timed)} rows of {count} were timed: {[row['reason'] for row in rows]}"
