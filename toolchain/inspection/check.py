"""``nnx check``: every fault of a model file at once, however broken it is."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from exporters import external_data, onnx_file
from exporters.errors import BadModelFile
from exporters.model_file import ModelFile
from toolchain.inspection import graph_checks, number_checks, runtime_checks, shape_deciders
from toolchain.inspection.faults import FAULT, Fault, Verdict
from toolchain.inspection.lighten import is_lightened
from toolchain.inspection.releases import Release
from toolchain.legible import hanging

GLYPHS = {FAULT: "✗", "warning": "!"}
_SHOWN_OF_A_KIND = 10


def check(path: Path, release: Release | None = None) -> Verdict:
    """All faults of the file at ``path``; with a ``release`` of ONNX Runtime also what that does not have.

    Raises BadModelFile where there is no such file to look at; a file that is no model has that as its only fault.
    """
    if not path.is_file():
        onnx_file.parsed(path)  # says what it is instead
    try:
        model = onnx_file.parsed(path)
    except BadModelFile as broken:
        return Verdict(model=str(path), faults=(_as_fault("file", broken, path),))
    found: list[Fault] = [_as_fault("file", broken, path) for broken in onnx_file.damages(model, path)]
    left_out: list[str] = []
    damaged = bool(found)
    found += runtime_checks.version_faults(model)
    if release is not None:
        found += runtime_checks.version_faults(model, release)
        found += runtime_checks.absent_operators(model, release)
    light = is_lightened(model)
    missing = [] if light else list(_missing(model, path))
    if not (damaged or missing or light):
        external_data.read(model, path)
    found += graph_checks.graph_faults(model)
    found += graph_checks.operator_faults(model)
    found += missing
    if damaged:
        left_out.append("shapes, weights and the runtime, for what is damaged comes first")
        return Verdict(model=str(path), faults=tuple(found), left_out=tuple(left_out))
    if missing or shape_deciders.lost(model):
        left_out.append("shapes, which weights that are not there may decide")
    else:
        found += graph_checks.shape_faults(model)
    if missing or light:
        left_out.append("what lies in the weights that are not there, and the runtime, which needs them")
    found += number_checks.number_faults(model)
    found += number_checks.half_faults(model)
    if missing or light:
        found += runtime_checks.absent_operators(model)
    else:
        found += runtime_checks.runtime_faults(ModelFile.of(model, path), explained=any(map(_is_fault, found)))
        found += _unexplained(model, found)
    return Verdict(model=str(path), faults=tuple(found), left_out=tuple(left_out))


def lines(verdict: Verdict, width: int | None = None) -> list[str]:
    """A line a fault for a pipe, broken between words for a terminal; of many of a kind the first few."""
    shown: dict[tuple[str, str], int] = {}
    drawn: list[str] = []
    kinds = max((len(each.kind) for each in verdict.faults), default=0)
    for each in sorted(verdict.faults, key=lambda fault: fault.severity):
        key = each.severity, each.kind
        shown[key] = shown.get(key, 0) + 1
        if shown[key] > _SHOWN_OF_A_KIND:
            continue
        start = f"{GLYPHS[each.severity]} {each.kind:<{kinds}}  "
        told = [f"{each.where}: {each.what}" if each.where else each.what, f"→ {each.do}"]
        drawn += [start + " ".join(told)] if width is None else hanging(start, told, width)
    for (severity, kind), count in shown.items():
        if count > _SHOWN_OF_A_KIND:
            drawn.append(f"{GLYPHS[severity]} {kind:<{kinds}}  and {count - _SHOWN_OF_A_KIND:,} more; --json lists all")
    return [*drawn, *([""] if drawn else []), *(f"Not checked: {each}." for each in verdict.left_out), summary(verdict)]


def summary(verdict: Verdict) -> str:
    """One sentence on the whole."""
    faults, warned = verdict.count(FAULT), verdict.count("warning")
    return f"{verdict.model}: {_many(faults, 'fault')}, {_many(warned, 'warning')}."


def _many(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _as_fault(kind: str, broken: BadModelFile, path: Path) -> Fault:
    what = broken.what.removeprefix(f"{path} ").replace(f" in {path}", "").rstrip(".")
    return Fault(kind=kind, where="", what=what, do=broken.do)


def _missing(model: onnx.ModelProto, path: Path) -> Iterator[Fault]:
    """Weights beside the file that are not there, or not as they should be."""
    for piece in external_data.pieces_or_faults(model, path):
        if isinstance(piece, external_data.Unreadable):
            fault = _as_fault("data", piece, path)
            yield Fault(kind="data", where=piece.tensor, what=fault.what, do=fault.do)


def _is_fault(each: Fault) -> bool:
    return each.severity == FAULT


def _unexplained(model: onnx.ModelProto, found: Sequence[Fault]) -> Iterator[Fault]:
    """What onnx's own checker says as a whole, where none of the other checks found anything of the kind."""
    if any(_is_fault(each) and each.kind in ("graph", "operator", "shape", "version", "checker") for each in found):
        return
    if why := onnx_file.invalid(model):
        yield Fault(kind="checker", where="", what=why, do="Export the model again, or mend the graph.")
