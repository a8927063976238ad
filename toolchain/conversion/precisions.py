"""The precisions that a model can be brought to: what each refuses, how its versions are made, what a search may keep.

A new precision is a class here with the methods of :class:`Precision`, and its name as a command's option.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnx

from exporters import int4
from exporters.artifact import Artifact
from exporters.calibration.thresholds import Method
from exporters.half import bf16, fp16
from exporters.half import ranges as half_ranges
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8 import preparation, targets
from exporters.int8.static import StaticInt8, StaticOptions
from exporters.int8.targets import Int8Format
from exporters.model_file import ModelFile
from toolchain import machine
from toolchain.conversion import range_choice
from toolchain.conversion.given import Given
from toolchain.conversion.sharded import fold_by
from toolchain.errors import BadUsage
from toolchain.inputs.samples import Samples
from toolchain.processes.workers import HERE, Workers
from toolchain.progress import Progress

Methods = Mapping[str, Method]
"""Tensor -> the calibration method of its range, where that is not the model's."""
Make = Callable[[Path, Collection[str], Methods], Artifact]
"""(file to write, nodes to leave in float, methods by tensor) -> what was written."""
_PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A model prepared once, of which versions with more or fewer nodes in float are made.

    ``reference`` is the fp32 graph whose layers those of a version are compared with. ``choice`` names the nodes that a
    search may put back in float, or their operators; None is for all. ``noise_by`` tells what each of the calibration
    methods ``compared``, the model's own first, costs single tensors on some samples. ``facts`` are what a verdict
    depends on besides files and samples.
    """

    make: Make
    reference: onnx.ModelProto
    choice: Collection[str] | None = None
    compared: tuple[Method, ...] = ()
    noise_by: Callable[[Method, Samples], Mapping[str, float]] = lambda method, samples: {}
    facts: Mapping[str, Any] = field(default_factory=dict)


class Precision(Protocol):
    """One way to make a model smaller or faster; frozen, with its options as fields."""

    @property
    def name(self) -> str:
        """As model files have it: see :func:`exporters.onnx_file.precision_of`."""

    @property
    def calibrates(self) -> bool:
        """Whether calibration data change the result; else they are samples to judge by, like others."""

    def refuse(self, model: ModelFile) -> None:
        """Raise what can be known before any data is read."""

    def prepare(self, model: ModelFile, given: Given, progress: Progress, workers: Workers = HERE) -> Ready:
        """Do what is done once for a model, whatever the versions; ``workers`` may calibrate."""


@dataclass(frozen=True, kw_only=True)
class Fp16:
    """Half precision; with calibration data, nodes that overflow or vanish in it on them stay in fp32."""

    keep_io_types: bool = True
    name: str = field(default="fp16", init=False)
    calibrates: bool = field(default=True, init=False)

    def refuse(self, model: ModelFile) -> None:
        """Nothing."""

    def prepare(self, model: ModelFile, given: Given, progress: Progress, workers: Workers = HERE) -> Ready:
        chosen, ranges = given.calibration, None
        if chosen is not None:
            with progress.rated_bar("ranges", len(chosen)) as advance:
                ranges = half_ranges.measure(model.normal, chosen.inputs, advance=advance)

        def make(candidate: Path, exclude: Collection[str], methods: Methods) -> Artifact:
            return fp16.convert(model, candidate, keep_io_types=self.keep_io_types, keep_fp32=exclude, ranges=ranges)

        calibrated = None if chosen is None else chosen.sha256
        return Ready(make=make, reference=model.normal, facts={"io": self.keep_io_types, "calibration": calibrated})


@dataclass(frozen=True, kw_only=True)
class Bf16:
    """bfloat16 weights."""

    name: str = field(default="bf16", init=False)
    calibrates: bool = field(default=False, init=False)

    def refuse(self, model: ModelFile) -> None:
        """Nothing."""

    def prepare(self, model: ModelFile, given: Given, progress: Progress, workers: Workers = HERE) -> Ready:
        def make(candidate: Path, exclude: Collection[str], methods: Methods) -> Artifact:
            return bf16.convert(model, candidate, keep_fp32=exclude)

        return Ready(make=make, reference=model.normal)


@dataclass(frozen=True, kw_only=True)
class Int4:
    """Block-wise 4-bit weights of matrix products, and tables of rows in int8."""

    block_size: int = 32
    name: str = field(default="int4", init=False)
    calibrates: bool = field(default=False, init=False)

    def refuse(self, model: ModelFile) -> None:
        """Nothing."""

    def prepare(self, model: ModelFile, given: Given, progress: Progress, workers: Workers = HERE) -> Ready:
        def make(candidate: Path, exclude: Collection[str], methods: Methods) -> Artifact:
            return int4.convert(model, candidate, block_size=self.block_size, exclude=exclude)

        return Ready(
            make=make, reference=model.normal, choice=(*_PRODUCTS, "Gather"), facts={"block_size": self.block_size}
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Int8Dynamic:
    """int8 weights; activations are quantized as they come."""

    int8: Int8Format
    name: str = field(default="int8-dynamic", init=False)
    calibrates: bool = field(default=False, init=False)

    def refuse(self, model: ModelFile) -> None:
        preparation.refuse_quantized(model)

    def prepare(self, model: ModelFile, given: Given, progress: Progress, workers: Workers = HERE) -> Ready:
        progress.note(f"dynamic int8; {self.int8}")

        def make(candidate: Path, exclude: Collection[str], methods: Methods) -> Artifact:
            return int8_dynamic.convert(model, candidate, int8=self.int8, exclude=exclude)

        facts = {"int8": str(self.int8)}
        return Ready(make=make, reference=model.normal, choice=int8_dynamic.OPERATORS, facts=facts)


@dataclass(frozen=True, kw_only=True)
class Int8Static:
    """int8 weights and activations, in ranges fixed on calibration data; ``use_cache`` keeps what was seen."""

    int8: Int8Format
    options: StaticOptions = field(default_factory=StaticOptions)
    use_cache: bool = True
    name: str = field(default="int8-static", init=False)
    calibrates: bool = field(default=True, init=False)

    def refuse(self, model: ModelFile) -> None:
        preparation.refuse_quantized(model)

    def prepare(self, model: ModelFile, given: Given, progress: Progress, workers: Workers = HERE) -> Ready:
        chosen = given.calibration
        if chosen is None:
            raise no_calibration()
        progress.note(f"static int8; {self.int8}")
        with progress.rated_bar("calibrate", len(chosen)) as advance:
            ready = StaticInt8(
                model,
                samples=chosen.inputs,
                int8=self.int8,
                source=chosen.source,
                options=self.options,
                cache=cache_folder() if self.use_cache else None,
                fold=fold_by(workers),
                advance=advance,
            )
        if ready.from_cache:
            progress.note(f"the ranges are known from an earlier calibration, kept in {cache_folder()}")
        options = {**asdict(self.options), "skip": sorted(self.options.skip)}
        return Ready(
            make=lambda candidate, exclude, methods: ready.write(candidate, exclude=exclude, methods=methods),
            reference=ready.reference,
            choice=ready.nodes,
            compared=range_choice.compared(ready.method),
            noise_by=lambda method, judging: range_choice.noise_by(method, ready, judging.inputs),
            facts={"int8": str(self.int8), "calibration": ready.data_sha256, **options},
        )


def no_calibration() -> BadUsage:
    """The error about static int8 without data."""
    return BadUsage(
        "Static int8 needs calibration data.",
        "Add --calibration with a file, a folder of images or a recipe's name, or use --mode dynamic.",
    )


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
