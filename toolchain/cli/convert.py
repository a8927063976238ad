"""``nnx convert``."""

from dataclasses import dataclass
from pathlib import Path

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option
from toolchain.cli.outputs import writable


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The file to make."""

    fp16: bool = option("--fp16", is_flag=True, help="To half precision.")
    bf16: bool = option("--bf16", is_flag=True, help="To bfloat16 weights.")
    output: Path | None = option(
        "-o", "--output", type=types.Output(".onnx"), help="The new file.  [default: MODEL.PRECISION.onnx beside MODEL]"
    )
    fp16_io: bool = option(
        "--fp16-io", is_flag=True, help="Make inputs and outputs fp16 too; they stay fp32 otherwise."
    )
    keep_fp32: tuple[str, ...] = option(
        "--keep-fp32", multiple=True, metavar="NODE", help="A node to leave in fp32; may be repeated."
    )

    def __post_init__(self) -> None:
        if self.fp16 == self.bf16:
            raise click.UsageError("Choose one: add --fp16 or --bf16.")
        if self.bf16 and self.fp16_io:
            raise click.UsageError("--fp16-io goes with --fp16.")

    @property
    def precision(self) -> str:
        return "fp16" if self.fp16 else "bf16"


@click.command("convert")
@click.argument("model", type=types.FILE)
@group("wanted", Wanted)
@options.calibration
@options.gate
@options.data
@options.as_json
def command(
    model: Path,
    wanted: Wanted,
    calibration: options.CalibrationChoices,
    gate: options.Gate,
    data: Path | None,
    as_json: bool,
) -> None:
    """Convert MODEL to fp16 or bf16, and compare the result with it.

    Nodes with constants that half precision cannot hold stay in fp32, and are named; with --calibration so do those
    whose activations overflow or vanish. fp16 halves the file everywhere; it saves time on GPUs, not on CPUs.

    \b
    Example:
      nnx convert artifacts/digits/model.onnx --fp16 --calibration digits
    """
    from exporters.model_file import ModelFile
    from toolchain.cli.made import show
    from toolchain.console import LiveProgress
    from toolchain.conversion import fitting
    from toolchain.conversion.precisions import Bf16, Fp16

    destination = writable(wanted.output or model.with_name(f"{model.stem}.{wanted.precision}.onnx"))
    goal = gate.goal(wanted.keep_fp32)
    given = calibration.given(data)
    progress = LiveProgress()
    precision = Fp16(keep_io_types=not wanted.fp16_io) if wanted.fp16 else Bf16()
    made = fitting.convert(
        ModelFile(model), destination, precision, given=given.source(progress), goal=goal, progress=progress
    )
    gate.keep(made.plan, goal)
    show(made, as_json)
