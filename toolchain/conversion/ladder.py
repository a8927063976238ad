"""The ways in which torch captures a module, climbed down until the file agrees with PyTorch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from exporters import onnx_file, torch_onnx
from exporters.atomic_file import with_final_names
from exporters.errors import AnotherRoad, ExporterError, NotExportable, UnlikeLengths, WrongResult
from exporters.model_file import ModelFile
from exporters.torch_guards import Guard
from exporters.torch_rungs import Rung, rungs_of
from runtimes.errors import RunFailed, RuntimesError
from toolchain.accuracy.comparison import Comparison
from toolchain.conversion import export_proof, first_operator
from toolchain.conversion.export_proof import Unlike
from toolchain.conversion.proof import Proven
from toolchain.conversion.reference import Reference
from toolchain.conversion.settling import Settled
from toolchain.conversion.target import Target
from toolchain.errors import CheckFailed, NnxError


@dataclass(frozen=True)
class Failed:
    """A rung whose file could not be made, or does not agree with PyTorch."""

    rung: Rung
    error: NnxError | ExporterError | RuntimesError

    def __str__(self) -> str:
        what = with_final_names(self.error.what)
        return f"{self.rung.value}: {what.partition(' could not be exported: ')[2] or what}"


def climbed(
    reference: Reference,
    found: Settled,
    dst: Path,
    *,
    output_axes: Mapping[str, Mapping[int, str]],
    target: Target,
    facts: Mapping[str, str],
    failed: Callable[[Failed], None],
) -> Proven:
    """Export to ``dst`` in the first way whose file agrees with PyTorch; ``failed`` is told of those that do not.

    A way in which torch finds out nothing about lengths is tried at those that another one found. Raises what the first
    way raised where none agrees.
    """
    arrays = reference.fed(found.example.at(found.lengths))
    guards: tuple[Guard, ...] = ()
    first: Failed | None = None
    for rung in rungs_of(reference.module):
        try:
            with onnx_file.staged_model(dst) as candidate:
                made = torch_onnx.capture(
                    reference.flat(),
                    candidate,
                    example_inputs={name: torch.from_numpy(array) for name, array in arrays.items()},
                    axes=found.example.axes,
                    output_axes=output_axes,
                    opset=target.opset,
                    ir_version=target.ir_version,
                    facts={**facts, **({} if rung is Rung.NON_STRICT else {"captured_by": rung.value})},
                    rung=rung,
                )
                guards = tuple(dict.fromkeys((*guards, *made.guards)))
                target.require(ModelFile(candidate).graph)
                compared, notes = _proven(candidate, made.program, reference, found, guards)
        except (NotExportable, WrongResult, CheckFailed, RuntimesError) as error:
            if first is None and isinstance(error, (AnotherRoad, UnlikeLengths)):
                raise  # it is about forward() itself; further down, about the way that failed there
            fault = Failed(rung, error)
            first = first or fault
            failed(fault)
            continue
        if rung is not Rung.NON_STRICT:
            notes = [f"It was captured by {rung.value}.", *notes]
        artifact = replace(made.artifact.placed(dst), notes=(*reference.notes, *found.notes, *notes))
        return Proven(artifact=artifact, parity=compared, proven_on=found.example.source)
    assert first is not None
    raise first.error


def _proven(
    path: Path,
    program: torch.export.ExportedProgram | None,
    reference: Reference,
    found: Settled,
    guards: Sequence[Guard],
) -> tuple[Comparison, list[str]]:
    """:func:`export_proof.proven`, whose failure names the operator that it is about, where that can be seen."""
    try:
        return export_proof.proven(path, reference, found, guards)
    except Unlike as error:
        if program is None or (origin := first_operator.differing(path, program, error.feeds)) is None:
            raise
        what = f"{error.what.rstrip('.')}; the first to differ is {origin.operator or 'an operator'}{origin}."
        raise CheckFailed(what, error.do, origin) from error
    except RunFailed as error:
        if program is None or (origin := first_operator.failing(path, program, error)) is None:
            raise
        what = f"{error.what.rstrip('.')}; it comes from {origin.operator or 'an operator'}{origin}."
        raise CheckFailed(what, error.do, origin) from error
