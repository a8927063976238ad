"""``nnx diff``: two model files side by side, matched by what they compute."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from exporters.model_file import ModelFile
from runtimes.errors import RuntimesError
from toolchain.errors import BadUsage
from toolchain.inputs import made_up, samples
from toolchain.inputs.samples import Samples
from toolchain.inspection import divergence, structure, weight_changes
from toolchain.inspection.difference import Difference, TensorChange, Values, WeightChange
from toolchain.inspection.matching import Matching
from toolchain.inspection.operations import Operations
from toolchain.inspection.tables import Table
from toolchain.layers.record import LIMIT_DB
from toolchain.progress import SILENT, Progress

_SAMPLES, _SEEDED = 16, 4
_SHOWN = 12
_AROUND = 3


def inputs(model: ModelFile, source: str | None, data: Path | None, progress: Progress) -> Samples:
    """What both are run on: samples of ``source``, or made from a seed. Raises BadUsage where nothing fits."""
    if source is not None:
        return samples.named(source, data, split="test", count=_SAMPLES, model=model)
    progress.warn("No real inputs given: values are compared on seeded random ones, for which int8 has no ranges.")
    return made_up.samples_for(model, _SEEDED)


def diff(
    a: ModelFile,
    b: ModelFile,
    *,
    source: str | None = None,
    data: Path | None = None,
    run: bool = True,
    limit_db: float | None = None,
    progress: Progress = SILENT,
) -> Difference:
    """Everything in which ``b`` differs from ``a``; without ``run`` no values are compared.

    Raises BadUsage for samples that do not fit ``a``. Where a model does not run, the result says so.
    """
    matching = Matching(Operations(a), Operations(b))
    least = divergence.limit_of(a.precision, b.precision) if limit_db is None else limit_db
    found, why = (None, "no run was asked for") if not run else _values(matching, a, b, source, data, least, progress)
    same, changed = weight_changes.weights(matching)
    one, two = matching.a.all, matching.b.all
    return Difference(
        a=str(a),
        b=str(b),
        precision_a=a.precision,
        precision_b=b.precision,
        interface=tuple(structure.interface(a, b)),
        matched=len(matching.of),
        renamed=sum(one[left].label != two[right].label for left, right in matching.pairs),
        only_a=tuple(f"{one[index].label} ({one[index].operator})" for index in matching.left),
        only_b=tuple(f"{two[index].label} ({two[index].operator})" for index in matching.right),
        changed=tuple(structure.changes(matching)),
        rounding_a=structure.rounding(matching.a),
        rounding_b=structure.rounding(matching.b),
        weights_equal=same,
        weights=tuple(changed),
        values=found,
        why_no_values=why,
    )


def _values(
    matching: Matching, a: ModelFile, b: ModelFile, source: str | None, data: Path | None, limit_db: float,
    progress: Progress,
) -> tuple[Values | None, str]:  # fmt: skip
    pairs = structure.paired(a.inputs, b.inputs)
    if len(pairs) < len(b.inputs):
        return None, "the second model takes inputs that the first does not"
    try:
        given = inputs(a, source, data, progress)
    except BadUsage as refused:
        if source is not None:
            raise
        return None, refused.what.rstrip(".")
    ends = structure.paired(a.outputs, b.outputs)
    try:
        found = divergence.values(
            matching, a, given, inputs=pairs, outputs=ends, limit_db=limit_db, progress=progress
        )  # fmt: skip
    except RuntimesError as failed:
        return None, failed.what.rstrip(".")
    return found, ""


def head(found: Difference) -> Iterator[str]:
    """The whole in a few sentences."""
    yield f"{found.a} ({found.precision_a}) and {found.b} ({found.precision_b})"
    if found.alike:
        where = "" if found.values is not None else " in what the files hold"
        yield f"Nothing but names differs{where}: {found.matched} operations, {found.weights_equal} weights."
    more = f", {found.renamed} of them under another name" if found.renamed else ""
    yield (
        f"Operations: {found.matched} in both{more}; {len(found.only_a)} only in the first, "
        f"{len(found.only_b)} only in the second."
    )
    if dict(found.rounding_a) != dict(found.rounding_b):
        yield f"Rounding and casts: {_counts(found.rounding_a)}; in the second {_counts(found.rounding_b)}."
    yield f"Weights: {found.weights_equal} equal, {len(found.weights)} not."
    yield from _said(found)


def _said(found: Difference) -> Iterator[str]:
    if found.values is None:
        yield f"No values were compared: {found.why_no_values}."
        return
    values = found.values
    were = "1 tensor was" if len(values.tensors) == 1 else f"{len(values.tensors)} tensors were"
    yield f"{were} compared on {values.count} samples of {values.samples}."
    if values.left_out:
        many = "1 tensor" if values.left_out == 1 else f"{values.left_out} tensors"
        yield f"{many} could not be looked at: ONNX Runtime does not give such values out."
    if values.differs is None:
        yield "All of them are equal bit for bit."
        return
    yield f"The first that differs is {_tensor(values.differs)}."
    if values.parts is None:
        yield f"None parts by more than {values.limit_db:.0f} dB allow{_lowest(values)}."
    else:
        yield f"The first that parts, below {values.limit_db:.0f} dB, is {_tensor(values.parts)}."


def _lowest(values: Values) -> str:
    rated = [each for each in values.tensors if each.sqnr_db is not None]
    low = min(rated, key=lambda each: each.sqnr_db or 0.0, default=None)
    return "" if low is None else f"; the furthest off is {_tensor(low)}"


def _tensor(change: TensorChange) -> str:
    at = f"'{change.a}'" if change.a == change.b else f"'{change.a}' ('{change.b}' in the second)"
    made = f", made by {change.node}" if change.node and change.node != change.a else ""
    return f"{at}{made}: {change.note or _off(change)}"


def _off(change: TensorChange) -> str:
    if change.sqnr_db is None:
        return f"{1 - change.equal:.2%} of its values differ"
    return f"{_how_far(change)} dB, largest difference {change.max_difference or 0:.3g}"


def _how_far(change: TensorChange) -> str:
    """A difference below what the SQNR reaches is not exact."""
    limited = change.sqnr_db is not None and change.sqnr_db >= LIMIT_DB and change.equal < 1
    return f"over {LIMIT_DB:.0f}" if limited else _decibels(change.sqnr_db)


def tables(found: Difference) -> Iterator[Table]:
    """What differs, the first rows of each."""
    if found.interface:
        yield _cut(
            "Interface", ("", "first", "second"),
            [(f"{each.what} {each.where}", each.a or "–", each.b or "–") for each in found.interface],
        )  # fmt: skip
    only = [*((name, "first") for name in found.only_a), *((name, "second") for name in found.only_b)]
    if only:
        yield _cut("In one of them only", ("node", "in the"), only)
    if found.changed:
        yield _cut(
            "Done otherwise", ("node", "what", "first", "second"),
            [(each.where, each.what, each.a or "–", each.b or "–") for each in found.changed],
        )  # fmt: skip
    if found.weights:
        headings = ("weight", "first", "second", "dB", "largest")
        yield _cut("Weights that differ, the furthest off first", headings, list(map(_weight, found.weights)))
    if found.values is not None and found.values.differs is not None:
        rows = [
            (each.a, each.operator, _how_far(each), f"{each.equal:.1%}", each.note or "–")
            for each in _around(found.values)
        ]
        yield Table("Values, in the order of the graph", ("tensor", "operator", "dB", "equal", "note"), rows, ("note",))


def _around(values: Values) -> list[TensorChange]:
    """Some tensors around the first that differs and the first that parts, and the outputs."""
    every = [*values.tensors, *values.outputs]
    marks = [index for index, each in enumerate(every) if each in (values.differs, values.parts)]
    near = {at for mark in marks for at in range(mark - _AROUND, mark + _AROUND + 1)}
    ends = range(len(values.tensors), len(every))
    return [every[at] for at in sorted({*near, *ends}) if 0 <= at < len(every)]


def _weight(each: WeightChange) -> tuple[str, ...]:
    name = each.a if each.a == each.b else f"{each.a} | {each.b}"
    largest = "–" if each.max_difference is None else f"{each.max_difference:.3g}"
    return name, each.kind_a, each.kind_b, _decibels(each.sqnr_db), largest


def _decibels(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if abs(value) < LIMIT_DB else "exact" if value > 0 else "none"


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items()) or "none"


def _cut(title: str, headings: tuple[str, ...], rows: Sequence[Sequence[str]]) -> Table:
    more = f" (the first {_SHOWN} of {len(rows)})" if len(rows) > _SHOWN else ""
    return Table(title + more, headings, rows[:_SHOWN])
