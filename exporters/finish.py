"""The tail that every converter shares: checked, the interface kept, its making written into it, saved."""

from collections.abc import Mapping
from pathlib import Path

import onnx

from exporters import onnx_file, provenance
from exporters.artifact import Artifact
from exporters.errors import WrongResult
from exporters.model_file import ModelFile


def finish(
    model: onnx.ModelProto,
    dst: Path,
    *,
    src: ModelFile,
    precision: str,
    facts: Mapping[str, str],
    notes: tuple[str, ...] = (),
) -> Artifact:
    """Write ``model``, ``src`` in ``precision``, to ``dst``; ``facts`` go into its provenance unless they are empty.

    Raises WrongResult when it is not valid ONNX, or has not the inputs and outputs of ``src``.
    """
    onnx_file.check(model, step=precision)
    wanted = tuple(value.name for value in src.inputs), tuple(value.name for value in src.outputs)
    if onnx_file.interface_of(model) != wanted:
        raise WrongResult(f"The {precision} model has other inputs or outputs.", "Report it with the model.")
    told = {name: fact for name, fact in facts.items() if fact}
    made_of = {"precision": precision, "parent_sha256": src.sha256, "tools": provenance.tool_versions()}
    provenance.write(model, told | made_of)
    onnx_file.save(model, dst)
    return Artifact.of(ModelFile.of(model, dst), precision=precision, parent_sha256=src.sha256, notes=notes)
