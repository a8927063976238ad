"""``nnx convert``."""

from pathlib import Path

import click

from toolchain.cli import options


@click.command("convert")
@click.argument("model", type=options.FILE)
@click.option("--fp16", is_flag=True, help="To half precision.")
@click.option("-o", "--output", type=options.FILE, help="The new file.  [default: MODEL.fp16.onnx beside MODEL]")
@click.option("--fp16-io", is_flag=True, help="Make inputs and outputs fp16 too; they stay fp32 otherwise.")
@click.option("--keep-fp32", multiple=True, metavar="NODE", help="A node to leave in fp32; may be repeated.")
@click.option("--samples", metavar="DATA", help="Real inputs for the proof: an .npz file, or a recipe.")
@options.data
@options.as_json
def command(
    model: Path,
    fp16: bool,
    output: Path | None,
    fp16_io: bool,
    keep_fp32: tuple[str, ...],
    samples: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Convert MODEL to fp16, and compare the result with it.

    Nodes with constants that half precision cannot hold stay in fp32, and are named. fp16 halves the file everywhere;
    it saves time on GPUs, not on CPUs.

    \b
    Example:
      nnx convert artifacts/digits/model.onnx --fp16 --samples digits
    """
    from toolchain import conversion
    from toolchain.cli.made import show
    from toolchain.console import LiveProgress

    if not fp16:
        raise click.UsageError("Nothing to convert to: add --fp16.")
    made = conversion.to_fp16(
        model,
        options.writable(output or model.with_name(f"{model.stem}.fp16.onnx")),
        keep_io_types=not fp16_io,
        keep_fp32=keep_fp32,
        samples_source=samples,
        data_folder=data,
        progress=LiveProgress(),
    )
    show(made, as_json)
