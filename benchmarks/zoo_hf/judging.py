"""One type of the zoo: what nnx makes of its folder, what transformers' own exporter does, and both beside PyTorch.

The measure is the harness's own: at three sizes of batch and of every other dynamic axis, each output by its shape, and
by its largest difference over its own largest value; whole numbers must be equal.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.hard import verdicts
from benchmarks.hard.runs import Place, watched
from benchmarks.kept_rows import Row
from benchmarks.zoo_hf import tiny
from benchmarks.zoo_hf.types import Type

SECONDS, MEMORY_BYTES = 900.0, 6 << 30
_LARGEST_DIFFERENCE = 1e-4
_BATCHES = (1, 2, 7)
_LONGER = (0, 3, 16)


def judged(kind: Type, *, by_transformers: bool) -> Row:
    """Make the folder of ``kind``, export it with nnx or transformers alone, and compare; each in a forked process.

    A row of "right", "refused", "no file", "wrong" or "fault", and why.
    """
    with Place.new() as place:
        made = _in_fork(place, lambda: _saved(kind, place.here / "model"))
        if made["why"]:
            return _row("fault", f"the tiny model: {made['why']}", made)
        return _theirs(place) if by_transformers else _ours(kind, place)


def _row(kind: str, why: str, found: Mapping[str, Any]) -> Row:
    return {"kind": kind, "why": why, "sizes": found.get("sizes", 0), "seconds": round(found["seconds"], 1)}


def _ours(kind: Type, place: Place) -> Row:
    run = place.nnx(
        "export", "./model", "-o", "m.onnx", makes=("m.onnx",), seconds=SECONDS, memory_bytes=MEMORY_BYTES
    )  # fmt: skip
    path = place.here / "m.onnx"
    found: dict[str, Any] = {}

    def judge() -> str:
        found.update(_in_fork(place, lambda: _compared(place.here / "model", path)))
        return str(found["why"])

    verdict = verdicts.of(run, part="zoo-hf", name=kind.name, judge=judge, made=path.exists())
    return {**_row(verdict.kind, verdict.why, {**found, "seconds": run.seconds}), "says": run.err[-600:]}


def _theirs(place: Place) -> Row:
    path = place.here / "m.onnx"
    made = _in_fork(place, lambda: _exported_by_transformers(place.here / "model", path))
    if made["why"] or not path.exists():
        return _row("no file", made["why"], made)
    found = _in_fork(place, lambda: _compared(place.here / "model", path))
    return _row("wrong" if found["why"] else "right", found["why"], {**found, "seconds": made["seconds"]})


def _in_fork(place: Place, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``act`` returns in a process of its own, or why it did not."""
    told = place.folder / "told.json"
    told.unlink(missing_ok=True)

    def run() -> int:
        warnings.simplefilter("ignore")
        try:
            found = act()
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the result
            found = {"why": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        told.write_text(json.dumps(found), encoding="utf-8")
        return 0

    code, seconds, _, stopped = watched(run, place, seconds=SECONDS, memory_bytes=MEMORY_BYTES)
    found = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {"why": stopped or f"exit code {code}"}
    return {**found, "seconds": seconds}


def _saved(kind: Type, folder: Path) -> dict[str, Any]:
    tiny.save(kind, folder)
    return {"why": ""}


def _model(folder: Path) -> Any:
    """The model as transformers itself loads it, so that nothing of nnx's reading is in the reference."""
    import torch
    import transformers

    name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    torch.set_num_threads(1)
    model = getattr(transformers, name).from_pretrained(folder).float().eval()
    model.config.use_cache = False
    return model


def _inputs(model: Any, folder: Path) -> tuple[Any, dict[str, int]]:
    """The inputs that a folder is exported with, and the lengths of their dynamic axes."""
    from toolchain.inputs import huggingface_inputs

    example = huggingface_inputs.proposed(model, folder)
    if example is None:
        raise ValueError("no inputs are known")
    return example, example.lengths_of(dict(example.arrays))


def _sizes(lengths: Mapping[str, int]) -> Iterator[dict[str, int]]:
    for batch, longer in zip(_BATCHES, _LONGER, strict=True):
        yield {word: batch if word == "batch" else length + longer for word, length in lengths.items()}


def _compared(folder: Path, path: Path) -> dict[str, Any]:
    """What is wrong with a file beside the model, "" for nothing, and at how many sizes both were run."""
    import onnxruntime
    import torch

    model = _model(folder)
    example, lengths = _inputs(model, folder)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = {each.name for each in session.get_inputs()}
    done = 0
    for at in _sizes(lengths):
        arrays = example.at(at)
        try:
            with torch.no_grad():
                wanted = model(**{name: torch.from_numpy(array) for name, array in arrays.items()})
        except Exception as error:
            if done == 0:
                raise ValueError("PyTorch itself does not run") from error
            continue
        right = [tensor.numpy() for tensor in _tensors(wanted)]
        feeds = {name.removeprefix("input."): name for name in taken}
        try:
            got = session.run(None, {feeds[name]: array for name, array in arrays.items() if name in feeds})
        except Exception as error:  # noqa: BLE001 - a file that does not run is the result
            return {"why": f"{_named(at)}: does not run: {' '.join(str(error).split())[:160]}", "sizes": done}
        if why := _unlike(right, got):
            return {"why": f"{_named(at)}: {why}", "sizes": done}
        done += 1
    return {"why": "", "sizes": done}


def _unlike(right: Sequence[npt.NDArray[Any]], got: Sequence[npt.NDArray[Any]]) -> str:
    if len(right) != len(got):
        return f"{len(got)} outputs, not {len(right)}"
    for place, (a, b) in enumerate(zip(right, got, strict=True)):
        if a.shape != b.shape:
            return f"output {place} has the shape {b.shape}, not {a.shape}"
        if not np.issubdtype(a.dtype, np.floating):
            if not np.array_equal(a, b):
                return f"output {place} has other whole numbers"
        elif not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return f"output {place} is not finite elsewhere"
        else:
            finite = np.isfinite(a)
            largest = float(np.abs(a[finite]).max(initial=0.0))
            apart = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
            if apart > _LARGEST_DIFFERENCE * max(largest, 1e-3):
                return f"output {place} differs by {apart:.2g} of {largest:.2g}"
    return ""


def _tensors(value: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree

    return [leaf for leaf in _pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _named(at: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {length}" for word, length in at.items())


def _exported_by_transformers(folder: Path, path: Path) -> dict[str, Any]:
    """transformers.exporters alone, every axis dynamic, on the same inputs."""
    import onnx_ir
    import torch
    from transformers.exporters import OnnxConfig, OnnxExporter

    model = _model(folder)
    example, lengths = _inputs(model, folder)
    arrays = example.at({**lengths, "batch": 2})
    inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    made = OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True))
    onnx_ir.save(made.program, str(path))
    return {"why": ""}
