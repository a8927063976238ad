"""A model changed in its form: run beside the original, tensor by tensor, before it gets its name."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
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
from runtimes.errors import RunFailed, RuntimesError
from runtimes.ort import OrtRuntime
from toolchain.accuracy import running
from toolchain.accuracy.comparison import Comparison, compare, worst
from toolchain.accuracy.output_kinds import of as kinds_of
from toolchain.conversion.given import Source
from toolchain.conversion.other_lengths import calls_at_others
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
    """The changed model beside the ``original``, on samples of the lengths that ``fixed`` has, then at others too.

    The worst of the comparisons is returned. Another length that the original itself does not take is passed over.
    """
    axes = fixed.batch_axes
    calls = list(feeds.calls(samples.first(running.SAMPLES, multiple=fixed.fixed_batch or 1).inputs, axes, _AT_ONCE))
    with OrtRuntime(original, precise=True) as before, OrtRuntime(candidate, precise=True) as changed:
        pair = _Pair(before, changed, wanted)
        at_lengths = [[pair.run(pair.known(call)) for call in calls]]
        for call in calls_at_others(calls[0], axes):
            try:
                known = pair.known(call)
            except RunFailed:
                continue
            at_lengths.append([pair.run(known)])
    precision = "fp16" if wanted.float_io == "fp16" else "fp32"
    found = [
        compare(
            [right for right, _ in ran], [got for _, got in ran], precision=precision, kinds=kinds, real=samples.real,  # type: ignore[arg-type]
            samples=sum(max((len(array) for array in right.values() if np.ndim(array)), default=1) for right, _ in ran),
        )
        for ran in at_lengths
    ]  # fmt: skip
    return replace(worst(found), samples=found[0].samples)


@dataclass(frozen=True)
class _Pair:
    """The original and the changed model, opened."""

    before: OrtRuntime
    changed: OrtRuntime
    wanted: Edits

    def known(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """What there is in the original in a call, by the names that the changed model has for it."""
        wants = {spec.name for spec in self.before.inputs}
        there = {**call, **run(self.before, {name: value for name, value in call.items() if name in wants})}
        return {self.wanted.rename.get(name, name): value for name, value in there.items()}

    def run(self, known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What of that the changed model should give, and what it gives."""
        kind = KINDS[self.wanted.float_io][1] if self.wanted.float_io else None
        outputs = run(self.changed, {spec.name: _as_kind(known[spec.name], kind) for spec in self.changed.inputs})
        right = {name: known[name] for name in outputs}
        return right, {name: _like(value, right[name]) if kind else value for name, value in outputs.items()}


def _as_kind(value: Any, kind: type[np.floating[Any]] | None) -> Any:
    """A float array in the kind that the changed model takes."""
    if kind is None or not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, np.floating):
        return value
    with np.errstate(over="ignore"):  # what half precision does not reach is infinite in it, and compared as that
        return value.astype(kind)


def _like(value: Any, other: Any) -> Any:
    """``value`` in the kind of ``other``, where both are float arrays."""
    return _as_kind(value, other.dtype.type) if isinstance(other, np.ndarray) and other.dtype.kind == "f" else value
