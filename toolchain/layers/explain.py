"""``nnx explain``: what every layer of a model file runs as, what it costs, and what it does to the result."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from exporters.model_file import ModelFile
from runtimes import ort_profile
from runtimes.ort_profile import CONVERSIONS, NodeTime, Unfused
from toolchain import machine
from toolchain.accuracy import running
from toolchain.inputs import made_up, samples
from toolchain.inputs.samples import Samples
from toolchain.layers import damage
from toolchain.layers.damage import Pair
from toolchain.layers.graph import Layer, Wiring, executed_by, origin_of
from toolchain.layers.record import LIMIT_DB, ExplainedLayer, Explanation, LayerError
from toolchain.legible import shapes_in_words
from toolchain.progress import SILENT, Progress

HEADINGS = ("layer", "operator", "runs as", "precision", "own dB", "accumulated dB", "noise", "weights kB", "time")
DROPPABLE = ("operator", "weights kB", "runs as")
"""Headings that a narrow terminal can do without, the least needed first."""
_TIMED_RUNS = 30
_STANDS_OUT = 0.3
_HARMLESS_DB = 60.0
_NAMED = 3


def inputs(
    model: ModelFile, source: str | None, data_folder: Path | None = None, progress: Progress = SILENT
) -> Samples:
    """What to explain ``model`` on: samples of ``source``, a file or a recipe's test split; without it from a seed."""
    if source is not None:
        return samples.named(source, data_folder, split="test", count=running.SAMPLES, model=model)
    progress.warn("No real inputs given: errors and times are those on seeded random values.")
    return made_up.samples_for(model, 8)


def explain(
    model: ModelFile,
    given: Samples,
    *,
    reference: ModelFile | None = None,
    threads: int,
    progress: Progress = SILENT,
) -> Explanation:
    """Profile ``model`` on the CPU, a sample at a time, and compare its layers with ``reference``'s if there is one.

    Raises BadUsage when the two files do not belong together, or ``given`` is no input of theirs.
    """
    parent = model.facts.get("parent_sha256")
    if reference is not None and parent and parent != reference.sha256:
        progress.warn(f"{model} says that it was made from another file than {reference}.")
    first = damage.first_batch(model, given.inputs)
    nodes = ort_profile.time_shares(model.path, first, threads=threads, runs=_TIMED_RUNS)
    if reference is None:
        wiring = Wiring(model.proto)
        cut = damage.cut(wiring, list(dict.fromkeys(_computed(wiring, nodes)))).layers
        errors = [_unjudged(layer) for layer in cut]
    else:
        pair = Pair(model, reference, given.inputs, threads=threads)
        wiring, cut, errors = pair.wiring, pair.layers, pair.errors(executed=nodes, progress=progress)
    explained = _with_times(errors, cut, executed_by(wiring, cut, nodes))
    if reference is None:
        explained.sort(key=lambda layer: -layer.time_share)
    left_over = ort_profile.unfused(nodes)
    precision = model.precision
    option = "--keep-fp32" if precision in ("fp16", "bf16") else "--exclude"
    return Explanation(
        model=str(model),
        precision=precision,
        reference=None if reference is None else str(reference),
        samples=given.source,
        batch=damage.samples_a_call(given.inputs, model.batch_axes),
        shapes={name: array.shape for name, array in first.items()},
        threads=threads,
        machine=asdict(machine.describe()),
        layers=tuple(explained),
        run_us=sum(node.mean_us for node in nodes),
        conversion_share=max(0.0, 1 - sum(layer.time_share for layer in explained)),
        unfused=tuple(left_over),
        advice=tuple(advice(explained, left_over, option=option)),
    )


def advice(
    explained: Sequence[ExplainedLayer], left_over: Sequence[Unfused], *, option: str = "--exclude"
) -> list[str]:
    """What to know or to try, in plain sentences: at most one about the noise and one about the time.

    ``option`` is the one that leaves a node in fp32.
    """
    lines = []
    noisy = [layer for layer in explained if layer.noise_share and layer.own_sqnr_db is not None]
    if noisy:
        worst, share = noisy[0], noisy[0].noise_share or 0.0
        own = f"{worst.own_sqnr_db:.0f} dB"
        if (worst.own_sqnr_db or 0.0) >= _HARMLESS_DB:
            lines.append(f"No layer does harm: the worst, {worst.name}, has {own} of its own.")
        elif share >= _STANDS_OUT and len(noisy) > 1:
            lines.append(f"{worst.name} alone makes {share:.0%} of the noise ({own}): try {option} {worst.name}.")
        else:
            lines.append(f"No layer stands out: the worst, {worst.name}, makes {share:.0%} of the noise ({own}).")
    in_float = [node.name for node in left_over if node.op_type not in CONVERSIONS]
    if left_over:
        share = sum(node.share for node in left_over)
        who = f"{len(in_float)} node{' runs' if len(in_float) == 1 else 's run'} in float between Q and DQ"
        named = f" ({_listed(in_float)})" if in_float else ""
        lines.append(f"{who}{named}; with the Q and DQ nodes inside the graph they take {share:.0%} of the time.")
    return lines


def notes(found: Explanation) -> list[str]:
    """Everything worth a line under the table."""
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    fed = f" ({shapes_in_words(found.shapes)})" if found.shapes else ""
    run = f"A run at batch {found.batch}{fed} with {threads} takes {found.run_us / 1e3:.3g} ms in its nodes"
    errors = [f"The errors are those against {found.reference} on {found.samples}."] if found.reference else []
    return [*errors, f"{run}, {found.conversion_share:.0%} of it between the layers.", *found.advice]


def cells(layer: ExplainedLayer) -> list[str]:
    """One row of the table under HEADINGS."""
    merged = layer.fused_into is not None
    return [
        layer.name,
        layer.op_type,
        f"in {layer.fused_into}" if merged else layer.runs_as or "–",
        layer.precision or "–",
        _decibels(layer.own_sqnr_db),
        _decibels(layer.accumulated_sqnr_db),
        "–" if layer.noise_share is None else f"{layer.noise_share:.1%}",
        f"{layer.weight_bytes / 1e3:,.1f}",
        "–" if merged else f"{layer.time_share:.1%}",
    ]


def _computed(wiring: Wiring, nodes: Sequence[NodeTime]) -> Iterator[str]:
    """The tensors that the executed nodes compute: where to cut a model that has no reference."""
    for node in nodes:
        origin = origin_of(wiring, node)
        if node.op_type not in CONVERSIONS and origin in wiring.made_by and origin in wiring.active:
            yield origin


def _unjudged(layer: Layer) -> LayerError:
    return LayerError(
        name=layer.name, op_type=layer.op_type, output=layer.output, precision="", weight_bytes=layer.weight_bytes
    )


def _with_times(
    errors: Sequence[LayerError], cut: Sequence[Layer], executed: Sequence[tuple[NodeTime, list[int]]]
) -> list[ExplainedLayer]:
    """A node's time goes to the heaviest of the layers that it does; the others are merged into that one."""
    own: dict[int, list[NodeTime]] = {}
    merged: dict[int, tuple[NodeTime, int]] = {}
    for node, (heaviest, *others) in executed:
        own.setdefault(heaviest, []).append(node)
        merged.update((position, (node, heaviest)) for position in others)
    positions = {(layer.name, layer.output): position for position, layer in enumerate(cut)}
    explained = []
    for error in errors:
        position = positions[error.name, error.output]
        nodes = own.get(position, [])
        main = nodes[0] if nodes else None
        into = merged.get(position) if main is None else None
        precision = main.precision if main else into[0].precision if into else error.precision
        explained.append(
            ExplainedLayer(
                **{**asdict(error), "precision": precision},
                runs_as=main.op_type if main else "",
                mean_us=sum(node.mean_us for node in nodes),
                time_share=sum(node.share for node in nodes),
                fused_into=cut[into[1]].name if into else None,
            )
        )
    return explained


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_NAMED])
    if len(names) > _NAMED:
        return f"{', '.join(shown)} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def _decibels(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if abs(value) < LIMIT_DB else ("exact" if value > 0 else "none")
