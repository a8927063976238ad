"""``nnx convert``."""

from pathlib import Path

import click

from toolchain.cli import options


@click.command("convert")
@click.argument("model", type=options.FILE)
@click.option("--fp16", is_flag=True, help="To half precision.")
@click.option("--bf16", is_flag=True, help="To bfloat16 weights.")
@click.option("-o", "--output", type=options.FILE, help="The new file.  [default: MODEL.PRECISION.onnx beside MODEL]")
@click.option("--fp16-io", is_flag=True, help="Make inputs and outputs fp16 too; they stay fp32 otherwise.")
@click.option("--keep-fp32", multiple=True, metavar="NODE", help="A node to leave in fp32; may be repeated.")
@options.calibration
@options.gate
@options.data
@options.as_json
def command(
    model: Path,
    fp16: bool,
    bf16: bool,
    output: Path | None,
    fp16_io: bool,
    keep_fp32: tuple[str, ...],
    calibration: str | None,
    samples: int,
    evaluation: str | None,
    max_drop: float | None,
    min_sqnr: float | None,
    min_cosine: float | None,
    search: bool,
    budget: float,
    plan: Path | None,
    save_plan: Path | None,
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
    from toolchain.conversion.given import Data
    from toolchain.conversion.precisions import Bf16, Fp16

    if fp16 == bf16:
        raise click.UsageError("Choose one: add --fp16 or --bf16.")
    if bf16 and fp16_io:
        raise click.UsageError("--fp16-io goes with --fp16.")
    destination = options.writable(output or model.with_name(f"{model.stem}.{'fp16' if fp16 else 'bf16'}.onnx"))
    progress = LiveProgress()
    given = Data(calibration=calibration, evaluation=evaluation, count=samples, folder=data)
    goal = options.goal(max_drop, min_sqnr, min_cosine, search, budget, plan, save_plan, keep_fp32)
    precision = Fp16(keep_io_types=not fp16_io) if fp16 else Bf16()
    made = fitting.convert(
        ModelFile(model), destination, precision, given=given.source(progress), goal=goal, progress=progress
    )
    options.keep_plan(made.plan, goal, save_plan)
    show(made, as_json)
