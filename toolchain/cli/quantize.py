"""``nnx quantize``."""

from pathlib import Path

import click

from toolchain.cli import options


@click.command("quantize")
@click.argument("model", type=options.FILE)
@click.option("--int8", is_flag=True, help="To 8-bit integers.")
@click.option(
    "--mode",
    type=click.Choice(["dynamic", "static"]),
    help="[default: static with --calibration, dynamic without]",
)
@click.option("--calibration", metavar="DATA", help="Real inputs: an .npz file, or a recipe's training split.")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Calibration samples to use.",
)
@click.option("-o", "--output", type=options.FILE, help="The new file.  [default: MODEL.int8-MODE.onnx beside MODEL]")
@options.data
@options.as_json
def command(
    model: Path,
    int8: bool,
    mode: str | None,
    calibration: str | None,
    samples: int,
    output: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Quantize MODEL to int8 in the format that this CPU is fast at, and compare the result with it.

    Static int8 fixes the ranges of activations from calibration data and suits convolution nets; dynamic int8 measures
    them at run time and suits nets of large matrix products.

    \b
    Example:
      nnx quantize artifacts/digits/model.onnx --int8 --calibration digits
      nnx quantize mlp.onnx --int8 --mode dynamic -o mlp.int8.onnx
    """
    from toolchain import conversion
    from toolchain.cli.made import show
    from toolchain.console import LiveProgress

    if not int8:
        raise click.UsageError("Nothing to quantize to: add --int8.")
    mode = mode or ("static" if calibration else "dynamic")
    made = conversion.to_int8(
        model,
        options.writable(output or model.with_name(f"{model.stem}.int8-{mode}.onnx")),
        mode=mode,
        calibration=calibration,
        count=samples,
        data_folder=data,
        progress=LiveProgress(),
    )
    show(made, as_json)
