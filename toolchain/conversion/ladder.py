"""The ways in which torch captures a module, climbed down until the file agrees with PyTorch."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from exporters import onnx_file, torch_onnx
from exporters.errors import AnotherRoad, ExporterError, NotExportable, UnlikeLengths, WrongResult
from exporters.model_file import ModelFile
from exporters.torch_guards import Guard
from exporters.torch_rungs import Rung
from runtimes.errors import RuntimesError
from toolchain.conversion import export_proof
from toolchain.conversion.proof import Proven
from toolchain.conversion.reference import Reference
from toolchain.conversion.settling import Settled
from toolchain.conversion.target import Target
from toolchain.errors import CheckFailed, NnxError
from toolchain.progress import Progress


def climbed(
    reference: Reference,
    found: Settled,
    dst: Path,
    *,
    output_axes: Mapping[str, Mapping[int, str]],
    target: Target,
    facts: Mapping[str, str],
    progress: Progress,
) -> Proven:
    """Export to ``dst`` in the first way whose file agrees with PyTorch; each that fails is told in a line.

    A way in which torch finds out nothing about lengths is tried at those that another one found. Raises what the first
    way raised where none agrees.
    """
    arrays = reference.fed(found.example.at(found.lengths))
    guards: tuple[Guard, ...] = ()
    first: NnxError | ExporterError | None = None
    for rung in Rung:
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
                guards = made.guards or guards
                target.require(ModelFile(candidate).graph)
                compared, notes = export_proof.proven(candidate, reference, found, guards)
        except (AnotherRoad, UnlikeLengths):
            raise
        except (NotExportable, WrongResult, CheckFailed, RuntimesError) as error:
            if first is None:
                first = error  # type: ignore[assignment]
            progress.note(f"{rung.value}: {error.what.partition(' could not be exported: ')[2] or error.what}")
            continue
        if rung is not Rung.NON_STRICT:
            notes = [f"It was captured by {rung.value}.", *notes]
        artifact = replace(made.artifact.placed(dst), notes=(*reference.notes, *found.notes, *notes))
        return Proven(artifact=artifact, parity=compared, proven_on=found.example.source)
    assert first is not None
    raise first
