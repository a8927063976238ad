"""A ``.pt2`` file, which torch.export.save wrote, as a module with its own examples and dynamic axes."""

import inspect
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from exporters.errors import in_words
from exporters.input_tree import planted
from toolchain.errors import BadUsage
from toolchain.inputs.factories import Made
from toolchain.inputs.input_specs import BATCH

_CODE = ("opaque_obj", "custom_obj")
"""How the entries of an archive begin that are objects, which run code when they are read."""
_MEND = "Save it anew with torch.export.save of this torch."


def load(path: Path) -> Made:
    """The program, its weights as parameters; nothing in the file is run. BadUsage for what is no such file."""
    if not path.is_file():
        raise BadUsage(f"There is no file {path}.", "Name a .pt2 file that torch.export.save wrote.")
    _require_plain(path)
    try:
        with mock.patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}), _quiet():
            program = torch.export.load(path)
            unlifted = program.module(check_guards=False)
            module = torch.fx.GraphModule(unlifted, unlifted.graph)  # one that has eval() and can be copied
    except OSError:
        raise
    except Exception as error:
        raise BadUsage(f"{path} cannot be read: {in_words(error)}.", _MEND) from error
    examples = _examples(program, module, path)
    axes = _axes(program, examples, path)
    return Made(name=str(path), module=module, examples=examples, axes=axes, is_untrained=False)


def _require_plain(path: Path) -> None:
    """Refuse an archive that holds objects beside tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [Path(entry.filename).name for entry in archive.infolist()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise BadUsage(f"{path} is no .pt2 archive, or it is truncated.", _MEND) from error
    if found := next((name for name in names if name.startswith(_CODE)), None):
        raise BadUsage(
            f"{path} holds an object beside its tensors ({found}), and reading one could run code.",
            "Export the program without custom objects.",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's warnings about archives of other versions to ourselves: what cannot be read is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _examples(program: torch.export.ExportedProgram, module: torch.nn.Module, path: Path) -> dict[str, Any]:
    """What the program was exported with, by the names of forward()."""
    if program.example_inputs is None:
        raise BadUsage(f"{path} holds no example inputs.", _MEND)
    arguments, keywords = program.example_inputs
    names = list(inspect.signature(module.forward).parameters)
    return {**dict(zip(names, arguments, strict=False)), **keywords}


def _axes(program: torch.export.ExportedProgram, examples: dict[str, Any], path: Path) -> dict[str, dict[int, str]]:
    """The dynamic axes of the examples' tensors: one name for one symbol, and the batch is what axis 0 is first."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tree in examples.items():
        planted(tree, name, tensors)
    placeholders = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    values = [placeholders.get(str(name)) for name in program.graph_signature.user_inputs]
    shapes = [value.shape for value in values if isinstance(value, torch.Tensor)]
    names: dict[str, str] = {}
    axes: dict[str, dict[int, str]] = {}
    for (name, _), shape in zip(tensors.items(), shapes, strict=True):
        axes[name] = {}
        for axis, length in enumerate(shape):
            if not isinstance(length, torch.SymInt):
                continue
            symbol = length.node.expr
            if not symbol.is_Symbol:
                raise BadUsage(
                    f"Axis {axis} of '{name}' in {path} is {symbol}: its length follows from another's.",
                    "Export the program with Dim.AUTO there.",
                )
            first = BATCH if axis == 0 and BATCH not in names.values() else f"{name.replace('.', '_')}_{axis}"
            axes[name][axis] = names.setdefault(str(symbol), first)
    return axes
