"""One model of timm's: exported by the command, and its file beside a fresh module at three batches."""

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks import beside_torch
from benchmarks.hard import comparing, verdicts
from benchmarks.hard.runs import Place, watched
from benchmarks.hard.verdicts import Kind
from toolchain.inputs import models

MOST_PARAMETERS = 30_000_000
TOO_LARGE = "too large"
_BATCHES = (1, 2, 7)
_MEMORY_BYTES = 8 << 30
_FOUND = "found.json"
Row = dict[str, Any]


def of_model(name: str, *, seconds: float) -> Row:
    """A row of its own kind for one that has more parameters than are tried."""
    with Place.new() as place:
        code, *_ = watched(lambda: _counted(name, place.here), place, seconds=seconds, memory_bytes=_MEMORY_BYTES)
        found = place.here / _FOUND
        parameters = json.loads(found.read_text(encoding="utf-8")) if code == 0 else None
        found.unlink(missing_ok=True)
        if parameters is not None and parameters > MOST_PARAMETERS:
            return {"model": name, "kind": TOO_LARGE, "why": "", "parameters": parameters}
        run = place.nnx(
            "export", f"timm:{name}", "-o", "model.onnx", makes=("model.onnx",), seconds=seconds,
            memory_bytes=_MEMORY_BYTES,
        )  # fmt: skip
        made = place.here / "model.onnx"
        verdict = verdicts.of(
            run, part="timm", name=name, judge=lambda: _judged(name, place, seconds), made=made.exists()
        )
        return {
            "model": name,
            "kind": str(verdict.kind),
            "why": verdict.why,
            "parameters": parameters,
            "seconds": round(run.seconds, 1),
            "peak_bytes": run.peak_bytes,
            "size_bytes": made.stat().st_size if made.exists() else 0,
            "says": run.err[-600:],
        }


def _counted(name: str, folder: Path) -> int:
    import timm

    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False)
    count = sum(parameter.numel() for parameter in module.parameters())
    (folder / _FOUND).write_text(json.dumps(count), encoding="utf-8")
    return 0


def _judged(name: str, place: Place, seconds: float) -> str:
    """What is wrong with the file, found out in a process of its own, for the memory's sake."""

    def act() -> int:
        (place.here / _FOUND).write_text(json.dumps(_unlike(name, place.here / "model.onnx")), encoding="utf-8")
        return 0

    code, _, _, stopped = watched(act, place, seconds=seconds, memory_bytes=_MEMORY_BYTES)
    if code:
        return f"it could not be compared: {stopped or f'exit code {code}'}"
    return str(json.loads((place.here / _FOUND).read_text(encoding="utf-8")))


def _unlike(name: str, path: Path) -> str:
    made = models.named(f"timm:{name}", {})
    example = models.example_of(made, (), None)
    module = made.module.eval()
    for batch in _BATCHES:
        feed = example.at({"batch": batch})
        with torch.no_grad():
            found = torch.utils._pytree.tree_leaves(module(*map(torch.from_numpy, feed.values())))
        right = [each.numpy() for each in found if isinstance(each, torch.Tensor)]
        ((got,), names) = comparing.outputs(path, [feed])
        if wrong := beside_torch.unlike(names, right, got, f"batch {batch}"):
            return wrong
    return ""


def is_tried(row: Row) -> bool:
    return bool(row["kind"] != TOO_LARGE)


def is_right(row: Row) -> bool:
    return bool(row["kind"] == Kind.RIGHT)
