"""``nnx convert`` and ``nnx quantize``: from a model file to a proven one in another precision."""

from collections.abc import Callable, Sequence
from pathlib import Path

from exporters import fp16, int8_dynamic, int8_static, onnx_file, targets
from exporters.artifact import Artifact
from toolchain import machine, proof, samples
from toolchain.errors import BadUsage
from toolchain.progress import Progress
from toolchain.proof import Proven
from toolchain.samples import Samples


def to_fp16(
    model: Path,
    output: Path,
    *,
    keep_io_types: bool,
    keep_fp32: Sequence[str],
    samples_source: str | None,
    data_folder: Path | None,
    progress: Progress,
) -> Proven:
    """Write ``model``'s fp16 version to ``output``, compared on ``samples_source`` or, without it, on seeded noise."""
    onnx_file.load(model)  # a file that is no model is said before any data is read
    real = _proof_samples(model, samples_source, data_folder, progress)
    return _proven(
        model,
        output,
        real,
        "fp16",
        lambda candidate: fp16.convert(model, candidate, keep_io_types=keep_io_types, keep_fp32=keep_fp32),
    )


def to_int8(
    model: Path,
    output: Path,
    *,
    mode: str,
    calibration: str | None,
    count: int,
    data_folder: Path | None,
    progress: Progress,
) -> Proven:
    """Write ``model``'s int8 version to ``output``; ``mode`` is static or dynamic, and is announced with the format."""
    int8 = int8_format()
    onnx_file.load(model)
    if mode == "static" and calibration is None:
        raise BadUsage(
            "Static int8 needs calibration data.",
            "Add --calibration FILE.npz or a recipe's name, or use --mode dynamic.",
        )
    progress.note(f"{mode} int8; {int8}")
    if mode == "dynamic":
        real = _proof_samples(model, calibration, data_folder, progress)
        return _proven(
            model, output, real, "int8-dynamic", lambda candidate: int8_dynamic.convert(model, candidate, int8=int8)
        )
    chosen, real = samples.for_calibration(str(calibration), data_folder, count=count, held_out=proof.SAMPLES)
    progress.note(f"calibrating on {len(chosen)} samples from {chosen.source}")
    return _proven(
        model,
        output,
        real,
        "int8-static",
        lambda candidate: int8_static.convert(model, candidate, samples=chosen.inputs, int8=int8, source=chosen.source),
    )


def int8_format() -> targets.Int8Format:
    """The int8 format that this machine's CPU is fast at."""
    facts = machine.describe()
    return targets.format_for(architecture=facts.architecture, isa=facts.isa)


def _proven(model: Path, output: Path, real: Samples, precision: str, make: Callable[[Path], Artifact]) -> Proven:
    return proof.convert(model, output, precision=precision, make=make, inputs=real.inputs, proven_on=real.source)


def _proof_samples(model: Path, source: str | None, data_folder: Path | None, progress: Progress) -> Samples:
    if source is not None:
        return samples.named(source, data_folder, split="test", count=proof.SAMPLES)
    progress.warn("No real inputs given: the result is compared on seeded random values.")
    return samples.random_for_model(model, 8)
