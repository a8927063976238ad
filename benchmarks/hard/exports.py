"""Scripts of a folder that hold hard PyTorch modules and recipes: the commands in their headers, and what they make.

An exported file is compared with a fresh module at several batches, inputs by name; a quantized one with what it was
made from; trainings of one recipe must come to one accuracy, and to one that exists.
"""

import inspect
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hard import comparing, verdicts
from benchmarks.hard.cases import written
from benchmarks.hard.runs import Place, Run, watched
from benchmarks.hard.verdicts import Verdict

PART = "exports"
_COMMAND = re.compile(r"nnx ((?:export|quantize|convert|train) .+?)(?:\s{2,}|\)$|  |$)", re.MULTILINE)
_SECONDS = 150.0  # a recipe is trained
_BATCHES, _NAMED_AXIS = (1, 2, 3, 16, 40), 24
_POINTS = 5.0
_RELATIVE, _ABSOLUTE = 2e-3, 2e-4
_INTEGERS_BELOW = 50
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def scripts(folder: Path, *, large: bool) -> list[Path]:
    return [path for path in sorted((folder / "export").glob("*.py")) if large or path.stem != "big"]


def of_script(script: Path) -> list[Verdict]:
    with Place.new() as place:
        shutil.copy(script, place.here)
        source = script.read_text(encoding="utf-8")
        made = _made_by(script, place) if "__main__" in source else []
        header = inspect.cleandoc(re.match(r'"""(.*?)"""', source, re.DOTALL)[1])  # type: ignore[index]
        lines = [line for line in _COMMAND.findall(header) if script.name in line or " m.onnx" in line]
        commands = [line.replace("FILE", name) for line in lines for name in (made if "FILE" in line else [""])]
        return list(_verdicts(script, place, [shlex.split(line) for line in dict.fromkeys(commands)]))


def _made_by(script: Path, place: Place) -> list[str]:
    before = set(place.here.iterdir())
    watched(lambda: _run(script), place, seconds=_SECONDS)
    return sorted(path.name for path in set(place.here.iterdir()) - before if path.is_file())


def _run(script: Path) -> int:
    sys.argv = [script.name]
    runpy.run_path(script.name, run_name="__main__")
    return 0


def _verdicts(script: Path, place: Place, commands: list[list[str]]) -> Iterator[Verdict]:
    reached: dict[str, list[float]] = {}
    for command in commands:
        if command[0] == "export" and "-o" not in command:
            command += ["-o", "m.onnx"]
        out = command[command.index("-o") + 1] if "-o" in command else ""
        path = place.here / out
        if out:
            path.unlink(missing_ok=True)
        makes = (out, f"{path.stem}.onnx") if out else ("artifacts", "a", "b")
        run = place.nnx(*command, makes=makes, seconds=_SECONDS)

        def judge(command: list[str] = command, path: Path = path, run: Run = run) -> str:
            if command[0] == "train":
                return _accuracies(run.out, reached.setdefault(command[1], []))
            return written(
                path, lambda: _export(script, command, path) if command[0] == "export" else _lost(command, path)
            )

        name = f"{script.stem} {' '.join(command[1:])}"[:110]
        yield verdicts.of(run, part=PART, name=name, judge=judge, made=bool(out) and path.exists())


def _accuracies(out: str, before: list[float]) -> str:
    """What is odd about the accuracy that a training printed, beside those of the same recipe before."""
    shares = [float(text) for text in re.findall(r"accuracy (\d+\.?\d*) ?%", out)]
    if not shares:
        return ""
    before.append(shares[-1])
    if shares[-1] > 100:
        return f"an accuracy of {shares[-1]} %"
    spread = max(before) - min(before)
    return f"accuracies {before} of one recipe" if spread > _POINTS else ""


def _lost(command: list[str], made: Path) -> str:
    """A quantized file beside its source, on the calibration data that it was given."""
    file, name = command[command.index("--calibration") + 1].split(":")
    feeds = list(islice(runpy.run_path(file)[name](), 64))
    return comparing.compare(Path(command[1]), made, feeds)


def _export(script: Path, command: list[str], path: Path) -> str:
    """What is wrong with an exported file beside fresh modules, at every batch that both take."""
    import onnxruntime
    import torch

    file, name = command[1].split(":")
    factory = runpy.run_path(file)[name]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    specs = [command[k + 1] for k, word in enumerate(command) if word == "--input"]
    fixed = [each.shape[0] for each in session.get_inputs() if each.shape and isinstance(each.shape[0], int)]
    for batch in fixed[:1] or _BATCHES:
        torch.manual_seed(0)  # as nnx does before it calls the factory
        made = factory()
        module, example = made if isinstance(made, tuple) else (made, None)
        inputs = example or {key: value for spec in specs for key, value in [_drawn(spec, batch)]}
        try:
            with torch.no_grad():
                right = _tensors(_called(module.eval(), {key: _cloned(value) for key, value in inputs.items()}))
        except Exception:  # noqa: BLE001 - a batch that the module itself does not take
            continue
        flat = [
            tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy() for tensor in _tensors(inputs)
        ]
        takes = {each.name: _TYPES.get(each.type) for each in session.get_inputs()}
        arrays = (
            {key: inputs[key].numpy() for key in takes}
            if set(takes) <= set(inputs)
            else dict(zip(takes, flat, strict=False))
        )
        # a module in half precision becomes a float32 file
        feed = {key: array.astype(takes[key] or array.dtype) for key, array in arrays.items()}
        try:
            got = session.run(None, feed)
        except Exception as error:  # noqa: BLE001 - the file that nnx called proven
            return f"batch {batch}: does not run: {' '.join(str(error).split())[:160]}"
        if line := _unlike([tensor.float().numpy() for tensor in right], got):
            return f"batch {batch}: {line}"
        if example is not None:
            break
    return ""


def _called(module: Any, inputs: dict[str, Any]) -> Any:
    """By name where forward() has those names, by position where not."""
    names = inspect.signature(module.forward).parameters
    return module(**inputs) if set(inputs) <= set(names) else module(*inputs.values())


def _cloned(value: Any) -> Any:
    return [each.clone() for each in value] if isinstance(value, list) else value.clone()


def _unlike(right: list[Any], got: list[Any]) -> str:
    if len(right) != len(got):
        return f"{len(got)} outputs, not {len(right)}"
    for index, (a, b) in enumerate(zip(right, got, strict=True)):
        if a.shape != b.shape:
            return f"output {index}: shape {b.shape}, not {a.shape}"
        if np.isnan(b).all() and b.size:
            continue  # weights that are NaN: what a script made so
        if not np.allclose(a, b, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True):
            return f"output {index}: differs by {np.max(np.abs(a - b)):.3g}"
    return ""


def _tensors(value: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree

    return [leaf for leaf in _pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _drawn(spec: str, batch: int) -> tuple[str, Any]:
    """A name and a tensor for an ``--input``; its first axis is the batch, named axes get another length than usual."""
    import torch

    name, kind, dims = re.fullmatch(r"(.+)=(\w+)\[(.*)\]", spec).groups()  # type: ignore[union-attr]
    shape = [int(dim) if dim.strip().isdigit() else _NAMED_AXIS for dim in dims.split(",")]
    shape[0] = batch
    generator = torch.Generator().manual_seed(batch)
    dtype = getattr(torch, kind)
    if not dtype.is_floating_point:
        return name, torch.randint(0, _INTEGERS_BELOW, shape, generator=generator).to(dtype)
    return name, torch.randn(shape, generator=generator).to(dtype)
