"""The tail that every converter shares: checked, the interface kept, its making written into it, saved."""

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

import onnx

from exporters import cleaning, external_data, large_weights, onnx_file, provenance
from exporters.artifact import Artifact
from exporters.errors import WrongResult
from exporters.model_file import ModelFile

P = ParamSpec("P")


def sparing(convert: Callable[Concatenate[ModelFile, P], Artifact]) -> Callable[Concatenate[ModelFile, P], Artifact]:
    """``convert``, with a file for new large weights where the source's own stay in its file."""

    @wraps(convert)
    def converted(src: ModelFile, /, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        with large_weights.scratch(src.has_stubs):
            return convert(src, *args, **kwargs)

    return converted


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
    if onnx_file.invalid(model) and not onnx_file.invalid(src.normal):  # what is no worse than the source may run
        onnx_file.check(model, step=precision)
    wanted = tuple(value.name for value in src.inputs), tuple(value.name for value in src.outputs)
    defaults = cleaning.overridable(model) == cleaning.overridable(src.normal)
    if onnx_file.interface_of(model) != wanted or not defaults:
        raise WrongResult(f"The {precision} model has other inputs or outputs.", "Report it with the model.")
    if onnx_file.opset_of(model) > src.opset:
        notes = (*notes, f"its opset was raised from {src.opset} to {onnx_file.opset_of(model)}")
    notes = (*src.notes, *notes)
    told = {name: fact for name, fact in facts.items() if fact}
    made_of = {"precision": precision, "parent_sha256": src.sha256, "tools": provenance.tool_versions()}
    provenance.write(model, told | made_of)
    onnx_file.save(model, dst)
    made = ModelFile.of(model, dst) if external_data.data_of(dst) is None else ModelFile(dst)
    return Artifact.of(made, precision=precision, parent_sha256=src.sha256, notes=notes)
