"""Which line, layer and operator of a user's module an error of torch, or a node of its program, is about."""

import contextlib
import os
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import onnxscript
import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from exporters.errors import Origin
from exporters.replaced import replaced
from exporters.whose_file import is_pythons

_LIBRARIES = tuple(f"{Path(str(library.__file__)).parent}{os.sep}" for library in (torch, onnx, onnx_ir, onnxscript))
_HERE = Path(__file__).resolve().parents[1]
_OURS = tuple(f"{_HERE / package}{os.sep}" for package in ("exporters", "toolchain", "runtimes"))
_OWN = "module"
"""What :class:`exporters.torch_module.Flat` calls the user's module."""
Frames = Sequence[tuple[str, int]]
"""Files and lines, the innermost call last."""


def of_error(errors: Sequence[BaseException]) -> Origin | None:
    """Where the user's code ran last, by the tracebacks of an error and its causes, the first cause last."""
    for each in reversed(errors):
        if found := of_frames(
            [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(each.__traceback__)]
        ):
            return found
    return None


def of_frames(frames: Frames) -> Origin | None:
    """The last line that is neither ours nor a library's below us."""
    theirs = [(file, int(line)) for file, line in frames if _is_theirs(file)]
    return Origin(file=theirs[-1][0], line=theirs[-1][1]) if theirs else None


def of_node(node: torch.fx.Node) -> Origin:
    """The operator of a program's node, the user's line that asks for it, and the layer in which it does."""
    stack = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    line = of_frames([(file, int(number)) for file, number in stack]) or Origin()
    layers = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = layers[-1] if layers else ("", "")
    return Origin(
        operator=str(node.target) if node.op == "call_function" else "",
        module=str(path).removeprefix(_OWN).removeprefix("."),
        kind=(kind if isinstance(kind, str) else kind.__qualname__).rpartition(".")[2],
        file=line.file,
        line=line.line,
    )


def of_named(node: str, program: torch.export.ExportedProgram) -> Origin | None:
    """:func:`of_node` for a node of the program by its name; None where it has none of that name."""
    return next((of_node(found) for found in program.graph.nodes if found.name == node), None)


@contextlib.contextmanager
def watching_lengths(names: Sequence[str]) -> Iterator[Mapping[tuple[str, int], Origin]]:
    """Yield a mapping that tells where in the user's code an axis of an input became a number while one is captured.

    Its keys are inputs, of ``names`` in the order of forward(), and axes. It fills while the block runs; of an axis
    whose line is not to be found it has nothing.
    """
    found: dict[tuple[str, int], Origin] = {}
    real = getattr(ShapeEnv, "_set_replacement", None)  # torch's own: another release may do without
    if real is None:
        yield found
        return

    def replace(self: Any, symbol: Any, target: Any, *others: Any, **keywords: Any) -> Any:
        if getattr(target, "is_number", False):
            stack = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_stack()]
            for source in self.var_to_sources.get(symbol, ()):
                place = re.search(r"\[(\d+)\]\.size\(\)\[(\d+)\]$", _name_of(source))
                if place and int(place[1]) < len(names) and (line := of_frames(stack)):
                    found.setdefault((names[int(place[1])], int(place[2])), line)
        return real(self, symbol, target, *others, **keywords)

    with replaced(ShapeEnv, "_set_replacement", replace):
        yield found


def _name_of(source: Any) -> str:
    name = source.name
    return str(name() if callable(name) else name)


def _is_theirs(file: str) -> bool:
    """Whether a file is neither ours nor a library's below us, nor Python's; a model may come out of a package."""
    return not file.startswith((*_OURS, *_LIBRARIES)) and not is_pythons(file)
