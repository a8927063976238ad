"""Where an export and the program that it was translated from first part: torch's operator, and the user's line."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch.export.graph_signature import InputKind

from exporters import library_output, torch_origin
from exporters.errors import Origin
from exporters.model_file import ModelFile
from runtimes.base import run
from runtimes.errors import RunFailed, RuntimesError
from toolchain.inspection import probing
from toolchain.inspection.probing import NotReadable

_RELATIVE = 1e-3
"""Of a tensor's largest value: rounding stays far below it, a wrong translation seldom does."""
_MOST_BYTES = 1 << 30
"""Of tensors that are kept for the comparison."""


def differing(
    path: Path, program: torch.export.ExportedProgram, feeds: Mapping[str, npt.NDArray[Any]]
) -> Origin | None:
    """The first operator of ``program`` whose result in the file at ``path`` is another on ``feeds``.

    None where each agrees by itself, so that roundings add up, and where one of the two does not run.
    """
    model = ModelFile(path).graph
    there = {name: name for node in model.graph.node for name in node.output if name}
    outputs = (value.name for value in model.graph.output)  # which got names of their own
    there |= {str(made): name for made, name in zip(program.graph_signature.user_outputs, outputs, strict=False)}
    try:
        results = _Results(program, set(there)).of(feeds)
    except Exception:  # noqa: BLE001 - torch's interpreter runs the user's program; it is about another failure
        return None
    names = list(results)
    if not names:
        return None
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=there[name]) for name in names)
    try:
        with probing.opened(tapped) as runtime:
            got = run(runtime, probing.fitted(dict(feeds), runtime.inputs))
    except (RuntimesError, NotReadable):
        return None
    parted = next((name for name in names if not _alike(results[name], got[there[name]])), None)
    return None if parted is None else torch_origin.of_named(parted, program)


def failing(path: Path, program: torch.export.ExportedProgram, error: RunFailed) -> Origin | None:
    """The operator of ``program`` that the node comes from in which ONNX Runtime failed, as it says itself."""
    said = " ".join(str(each) for each in (error.__cause__, error))
    if (named := re.search(r"Name:\s*'([^']+)'", said)) is None:
        return None
    nodes = {node.name: node for node in ModelFile(path).graph.graph.node}
    outputs: Sequence[str] = nodes[named[1]].output if named[1] in nodes else ()
    found = (torch_origin.of_named(name, program) for name in (*outputs, named[1].removeprefix("node_")))
    return next((origin for origin in found if origin is not None), None)


class _Results(torch.fx.Interpreter):
    """Runs a program, and keeps those results of its nodes that are ``wanted`` by name."""

    def __init__(self, program: torch.export.ExportedProgram, wanted: set[str]) -> None:
        super().__init__(program.graph_module)
        self._program = program
        self._wanted = wanted
        self._kept: dict[str, npt.NDArray[Any]] = {}
        self._bytes = 0

    def of(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """The results on ``feeds``, in the order in which they are computed."""
        given = iter([torch.from_numpy(np.array(array)) for array in feeds.values()])
        values = [self._value(spec, given) for spec in self._program.graph_signature.input_specs]
        with torch.no_grad(), library_output.silent():
            self.run(*values)
        return self._kept

    def _value(self, spec: Any, given: Any) -> Any:
        if spec.kind is InputKind.USER_INPUT:
            return next(given)
        held = {**self._program.constants, **self._program.state_dict}
        return held[spec.target]

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and n.name in self._wanted and isinstance(result, torch.Tensor):
            value = result.detach()
            self._bytes += value.nbytes
            if self._bytes < _MOST_BYTES and not value.is_complex():
                self._kept[n.name] = (value.float() if value.dtype == torch.bfloat16 else value).numpy().copy()
        return result


def _alike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    if not np.issubdtype(one.dtype, np.inexact):
        return bool(np.array_equal(one, other))
    largest = float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=_RELATIVE, atol=_RELATIVE * largest, equal_nan=True))
