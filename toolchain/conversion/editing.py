"""A model changed in its form: run beside the original, tensor by tensor, before it gets its name."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporters import edits, feeds, onnx_file, provenance, simplify
from exporters.artifact import Artifact
from exporters.edits import Edits
from exporters.errors import ExporterError
from exporters.float_io import KINDS
from exporters.model_file import ModelFile
from runtimes.base import run
from runtimes.errors import RuntimesError
from runtimes.ort import OrtRuntime
from toolchain.accuracy import running
from toolchain.accuracy.comparison import Comparison, compare
from toolchain.accuracy.output_kinds import of as kinds_of
from toolchain.conversion.given import Source
from toolchain.conversion.proof import Proven
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage, CheckFailed, NnxError
from toolchain.inputs.samples import Samples

_AT_ONCE = 16


def edit(model: ModelFile, dst: Path, wanted: Edits, *, given: Source, target: Target | None = None) -> Proven:
    """Write ``model`` changed as ``wanted`` says to ``dst``; no file is left unless it gives what the original gives.

    A part that was cut out is fed what the original has at its beginning, and compared with what it has at its end.
    Raises BadUsage, BadOption, CheckFailed.
    """
    if dst.resolve() == model.path.resolve():
        raise BadUsage("The output is the input file.", "Choose another --output.")
    made = wanted.applied(model.proto)
    with tempfile.TemporaryDirectory(prefix="nnx-edit-") as folder, onnx_file.staged_model(dst) as candidate:
        fixed = ModelFile(onnx_file.write(wanted.fixed(model.proto), Path(folder) / "fixed.onnx"))
        samples = given(fixed, False).judged_on
        original = model.path if not (wanted.start or wanted.end) else _tapped(model.proto, wanted, Path(folder))
        facts = {name: str(value) for name, value in asdict(wanted).items() if value and name != "simplify"}
        facts |= {"parent_sha256": model.sha256, "tools": provenance.tool_versions()}
        refused: list[NnxError | ExporterError | RuntimesError] = []
        said: tuple[str, ...] = ()
        for by, note, form in _forms(made, wanted):
            try:
                provenance.write(form, {**facts, **by})
                onnx_file.check(form, step="edit")
                if target is not None:
                    target.require(form)
                onnx_file.save(form, candidate)
                compared = _compared(fixed, original, candidate, samples, wanted, kinds_of(form))
                if not compared.passed:
                    raise CheckFailed(
                        f"The changed model does not give what {model} gives: {compared.why} ({compared}).",
                        "No file was written. Report it with the model.",
                    )
            except (CheckFailed, ExporterError, RuntimesError) as error:
                refused.append(error)
            else:
                said = note
                break
        else:
            raise refused[-1]  # of the form with nothing taken out
        artifact = Artifact.of(ModelFile(candidate), precision=model.precision, parent_sha256=model.sha256)
        artifact = replace(artifact, notes=(*artifact.notes, *said))
    return Proven(artifact=artifact.placed(dst), parity=compared, proven_on=samples.source, judged_on=samples)


def _forms(made: onnx.ModelProto, wanted: Edits) -> Iterator[tuple[dict[str, str], tuple[str, ...], onnx.ModelProto]]:
    """``made``, simplified in every way that there is where that is wanted, after its facts and what is to be said."""
    if not wanted.simplify:
        yield {}, (), made
        return
    before = simplify.nodes(made)
    for name, form in simplify.simplified(made):
        if (after := simplify.nodes(form)) < before:
            yield {"simplify": name}, (f"{before} nodes became {after}, by {name}.",), form
    yield {}, (f"Its {before} nodes stay: no simpler form gives the same.",), made


def _tapped(model: onnx.ModelProto, wanted: Edits, folder: Path) -> Path:
    """The original with the tensors at which a part begins and ends as its outputs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    ends = wanted.end or tuple(value.name for value in made.graph.output)
    given = {value.name for value in made.graph.input}
    edits.cut(made, (), tuple(dict.fromkeys((*ends, *(name for name in wanted.start if name not in given)))))
    return onnx_file.write(made, folder / "tapped.onnx")


def _compared(
    fixed: ModelFile, original: Path, candidate: Path, samples: Samples, wanted: Edits, kinds: Mapping[str, object]
) -> Comparison:
    """The changed model beside the ``original``, on samples of the lengths that ``fixed`` has."""
    axes = fixed.batch_axes
    kind = KINDS[wanted.float_io][1] if wanted.float_io else None
    inputs = samples.first(running.SAMPLES, multiple=fixed.fixed_batch or 1).inputs
    right, got = [], []
    with OrtRuntime(original, precise=True) as before, OrtRuntime(candidate, precise=True) as changed:
        wants = {spec.name for spec in before.inputs}
        taken = [spec.name for spec in changed.inputs]
        for whole in feeds.calls(inputs, axes, _AT_ONCE):
            there = {**whole, **run(before, {name: value for name, value in whole.items() if name in wants})}
            known = {wanted.rename.get(name, name): value for name, value in there.items()}
            given = {name: known[name] for name in taken}
            outputs = run(changed, {name: _as_kind(value, kind) for name, value in given.items()})
            right.append({name: known[name] for name in outputs})
            got.append({name: _like(value, known[name]) if kind else value for name, value in outputs.items()})
    count = sum(max((len(array) for array in call.values() if np.ndim(array)), default=1) for call in right)
    precision = "fp16" if wanted.float_io == "fp16" else "fp32"
    return compare(right, got, precision=precision, samples=count, kinds=kinds, real=samples.real)  # type: ignore[arg-type]


def _as_kind(value: Any, kind: type[np.floating[Any]] | None) -> Any:
    """A float array in the kind that the changed model takes."""
    if kind is None or not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.floating):
        return value
    with np.errstate(over="ignore"):  # what half precision does not reach is infinite in it, and compared as that
        return value.astype(kind)


def _like(value: Any, other: Any) -> Any:
    """``value`` in the kind of ``other``, where both are float arrays."""
    return _as_kind(value, other.dtype.type) if isinstance(other, np.ndarray) and other.dtype.kind == "f" else value
