"""``nnx convert`` and ``nnx quantize``: from a model file to a proven one in another precision."""

import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from exporters import int4, onnx_file
from exporters.artifact import Artifact
from exporters.calibration import data as calibration_data
from exporters.half import bf16, fp16
from exporters.half import ranges as half_ranges
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8 import preparation as int8_preparation
from exporters.int8 import targets
from exporters.int8.static import StaticInt8, StaticOptions
from exporters.int8.targets import Int8Format
from toolchain import machine
from toolchain.conversion import fitting, proof, range_choice
from toolchain.conversion.fitting import Goal, Methods
from toolchain.conversion.proof import Proven
from toolchain.errors import BadUsage
from toolchain.inputs import overlap, samples
from toolchain.inputs.samples import Samples
from toolchain.layers import damage as layers
from toolchain.progress import Progress

_PASSING = {"Relu", "Clip", "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
_PRODUCTS = ("MatMul", "Gemm")
_RANKED_ON = 64
"""Samples on which the layers' errors are compared."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the result is made and judged with: sources as :func:`samples.named` takes them.

    ``calibration`` is training data, ``count`` samples of it; ``evaluation`` is held out, None for the calibration
    source's own held-out part; ``folder`` holds the data set of a recipe.
    """

    calibration: str | None = None
    evaluation: str | None = None
    count: int = 256
    folder: Path | None = None


def to_fp16(model: Path, output: Path, *, keep_io_types: bool, data: Data, goal: Goal, progress: Progress) -> Proven:
    """Write ``model``'s fp16 version to ``output``.

    With calibration data, nodes that overflow or vanish in half precision on them stay in fp32, beside those whose
    constants do not fit and ``goal.exclude``.
    """
    source = _source(model, output, goal)
    chosen, real = _samples(model, source, data, progress)
    ranges = None
    if chosen is not None:
        with _bar(progress, "ranges", len(chosen)) as advance:
            ranges = half_ranges.measure(source, chosen.inputs, advance=advance)

    def make(candidate: Path, exclude: Collection[str], methods: Methods) -> Artifact:
        return fp16.convert(model, candidate, keep_io_types=keep_io_types, keep_fp32=exclude, ranges=ranges)

    facts = {"io": keep_io_types, "calibration": None if chosen is None else overlap.digest(chosen.inputs)}
    return _fitted(model, output, "fp16", make, _named(source), real, replace(goal, facts=facts), progress)


def to_bf16(model: Path, output: Path, *, data: Data, goal: Goal, progress: Progress) -> Proven:
    """Write ``model`` with bfloat16 weights to ``output``."""
    source = _source(model, output, goal)
    real = _judging(model, source, data, progress)

    def make(candidate: Path, exclude: Collection[str], methods: Methods) -> Artifact:
        return bf16.convert(model, candidate, keep_fp32=exclude)

    return _fitted(model, output, "bf16", make, _named(source), real, goal, progress)


def to_int4(model: Path, output: Path, *, block_size: int, data: Data, goal: Goal, progress: Progress) -> Proven:
    """Write ``model`` with block-wise int4 weights to ``output``."""
    source = _source(model, output, goal)
    real = _judging(model, source, data, progress)

    def make(candidate: Path, exclude: Collection[str], methods: Methods) -> Artifact:
        return int4.convert(model, candidate, block_size=block_size, exclude=exclude)

    goal = replace(goal, facts={"block_size": block_size})
    return _fitted(model, output, "int4", make, _named(source), real, goal, progress, _PRODUCTS)


def to_int8_dynamic(
    model: Path, output: Path, *, int8: Int8Format, data: Data, goal: Goal, progress: Progress
) -> Proven:
    """Write ``model``'s dynamic int8 version to ``output``."""
    source = _source(model, output, goal)
    int8_preparation.refuse_quantized(model, source)
    progress.note(f"dynamic int8; {int8}")
    real = _judging(model, source, data, progress)

    def make(candidate: Path, exclude: Collection[str], methods: Methods) -> Artifact:
        return int8_dynamic.convert(model, candidate, int8=int8, exclude=exclude)

    goal = replace(goal, facts={"int8": str(int8)})
    return _fitted(model, output, "int8-dynamic", make, _named(source), real, goal, progress, (*_PRODUCTS, "LSTM"))


def to_int8_static(
    model: Path,
    output: Path,
    *,
    int8: Int8Format,
    data: Data,
    goal: Goal,
    options: StaticOptions,
    use_cache: bool,
    progress: Progress,
) -> Proven:
    """Write ``model``'s static int8 version to ``output``, calibrated and judged on samples that share none."""
    source = _source(model, output, goal)
    int8_preparation.refuse_quantized(model, source)
    if data.calibration is None:
        raise BadUsage(
            "Static int8 needs calibration data.",
            "Add --calibration with a file, a folder of images or a recipe's name, or use --mode dynamic.",
        )
    progress.note(f"static int8; {int8}")
    chosen, real = _samples(model, source, data, progress)
    assert chosen is not None
    if goal.requirement is not None and goal.requirement.max_drop_points is not None and real.labels is None:
        raise BadUsage(
            "A drop in accuracy cannot be measured without labels.",
            "Give labelled samples with --eval, or --min-sqnr or --min-cosine instead of --max-drop.",
        )
    with _bar(progress, "calibrate", len(chosen)) as advance:
        ready = StaticInt8(
            model,
            samples=chosen.inputs,
            int8=int8,
            source=chosen.source,
            options=options,
            cache=cache_folder() if use_cache else None,
            advance=advance,
        )
    if ready.from_cache:
        progress.note(f"the ranges are known from an earlier calibration, kept in {cache_folder()}")
    with tempfile.TemporaryDirectory(prefix="nnx-ready-") as folder:
        reference = ready.write_reference(Path(folder) / "reference.onnx")
        chosen_options = {**asdict(options), "skip": sorted(options.skip)}
        facts = {"int8": str(int8), "calibration": ready.data_sha256, **chosen_options}
        return _fitted(
            model, output, "int8-static",
            lambda candidate, exclude, methods: ready.write(candidate, exclude=exclude, methods=methods),
            onnx_file.load(reference), real, replace(goal, facts=facts), progress, ready.nodes,
            lambda: range_choice.methods_by_tensor(ready, reference, _ranked_on(real, source)),
        )  # fmt: skip


def format_for(target: str = targets.AUTO) -> Int8Format:
    """The int8 format of a target; ``auto`` is this machine's CPU."""
    if target != targets.AUTO:
        return targets.named(target)
    facts = machine.describe()
    return targets.format_for(architecture=facts.architecture, isa=facts.isa)


def runs_here(target: str) -> bool:
    """Whether ``target`` is what this machine's CPU is, so that timing the result here tells something."""
    return format_for(target) == format_for()


def cache_folder() -> Path:
    """Where calibration statistics are kept between calls: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnx" / "calibration"


def _source(model: Path, output: Path, goal: Goal) -> onnx.ModelProto:
    """The model, once all is checked that can be before any data is read."""
    proof.refuse_same(model, output)
    source = onnx_file.load(model)
    onnx_file.require_nodes(_named(source), goal.exclude, source=model)
    return source


def _named(source: onnx.ModelProto) -> onnx.ModelProto:
    """``source`` with a name for each node, as the converters give them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(source)
    onnx_file.name_nodes(copy.graph)
    return copy


def _fitted(
    model: Path,
    output: Path,
    precision: str,
    make: fitting.Make,
    reference: onnx.ModelProto,
    real: Samples,
    goal: Goal,
    progress: Progress,
    choice: Collection[str] | None = None,
    refine: Callable[[], Methods] | None = None,
) -> Proven:
    """``reference`` is the fp32 model whose layers those of the result are compared with, to rank them.

    ``choice`` names the nodes that a search may put back in float, or their operators; None is for all.
    """

    def rank(candidate: Path) -> list[str]:
        with tempfile.TemporaryDirectory(prefix="nnx-reference-") as folder:
            path = Path(folder) / "reference.onnx"
            onnx_file.save(reference, path)
            errors = layers.damage(candidate, path, _ranked_on(real, reference), progress=progress)
        operators = {node.name: node.op_type for node in reference.graph.node}
        found = [error.name for error in errors if error.own_sqnr_db is not None]
        ranked = _each_with_its_producers(found, reference.graph)
        return [name for name in ranked if choice is None or name in choice or operators.get(name) in choice]

    return fitting.fit(
        model, output, precision=precision, make=make, rank=rank, refine=refine, judged_on=real, goal=goal,
        progress=progress,
    )  # fmt: skip


def _ranked_on(real: Samples, source: onnx.ModelProto) -> Mapping[str, npt.NDArray[np.generic]]:
    """Samples on which layers are compared: some of those that steer a search, none of those with the last word."""
    steering = real.rows(np.arange(len(real))[fitting.STEERING])
    return steering.first(_RANKED_ON, multiple=calibration_data.fixed_batch(source) or 1).inputs


def _each_with_its_producers(names: list[str], graph: onnx.GraphProto) -> list[str]:
    """``names``, each followed by the layers that make its inputs, if they are not before it already.

    A layer that suffers from a rounded input is not helped by computing in float: who makes that input must too.
    """
    nodes = {node.name: node for node in graph.node}
    makers = {output: node for node in graph.node for output in node.output}
    ranked: dict[str, None] = {}
    for name in names:
        ranked[name] = None
        pending = list(nodes[name].input) if name in nodes else []
        while pending:
            maker = makers.get(pending.pop())
            if maker is not None and maker.op_type in _PASSING:
                pending.append(maker.input[0])
            elif maker is not None and maker.name in names:
                ranked.setdefault(maker.name)
    return list(ranked)


def _samples(model: Path, source: onnx.ModelProto, data: Data, progress: Progress) -> tuple[Samples | None, Samples]:
    """(What to calibrate on, what to judge on), found to fit ``source``; see :func:`_judging` without calibration."""
    if data.calibration is None:
        return None, _judging(model, source, data, progress)
    chosen, real = samples.for_calibration(
        data.calibration, data.folder, count=data.count, model=model, evaluation=data.evaluation
    )
    for given in (chosen, real):
        calibration_data.check(given.inputs, source, source=given.source)
    progress.note(f"calibrating on {len(chosen)} samples from {chosen.source}; {len(real)} from {real.source} judge")
    return chosen, real


def _judging(model: Path, source: onnx.ModelProto, data: Data, progress: Progress) -> Samples:
    """What to judge on where nothing is calibrated: all that is real, or seeded noise when nothing is."""
    given = data.evaluation or data.calibration
    if given is None:
        progress.warn("No real inputs given: the result is compared on seeded random values.")
        return samples.random_for_model(model, 8)
    real = samples.named(given, data.folder, split="test", model=model)
    calibration_data.check(real.inputs, source, source=real.source)
    return real


@contextmanager
def _bar(progress: Progress, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that also tells the rate."""
    began, done = time.monotonic(), 0
    with progress.bar(title, total) as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.advance(count, rate=f"{done / max(time.monotonic() - began, 1e-9):,.0f} samples/s")

        yield advance
