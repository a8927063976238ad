"""``nnx lighten``."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from toolchain.cli import options, types
from toolchain.cli.outputs import writable


@click.command("lighten")
@click.argument("model", type=types.FILE)
@click.option(
    "-o", "--output", type=types.Output(".onnx"),
    help="The new file.  [default: MODEL.light.onnx beside MODEL, MODEL.filled.onnx with --fill]",
)  # fmt: skip
@click.option("--fill", is_flag=True, help="The way back: seeded weights in the place of those that are not there.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of --fill.")
@options.as_json
def command(model: Path, output: Path | None, fill: bool, seed: int, as_json: bool) -> None:
    """Write MODEL without its weights, to be attached to a bug report; with --fill put seeded weights in.

    Names, types and shapes stay, and so do constants that decide shapes. Of each weight the file says mean, spread and
    reach, which --fill gives to the seeded ones. --fill also takes a model whose file of weights is lost.

    \b
    Example:
      nnx lighten model.onnx
      nnx lighten model.light.onnx --fill
    """
    from exporters.model_file import ModelFile
    from toolchain.console import LiveProgress, print_result
    from toolchain.inspection import lighten

    stem = model.stem.removesuffix(".light") if fill else model.stem
    destination = writable(output or model.with_name(f"{stem}.{'filled' if fill else 'light'}.onnx"))
    made = (
        lighten.fill(ModelFile(model), destination, seed=seed)
        if fill
        else lighten.lighten(ModelFile(model), destination)
    )
    progress = LiveProgress()
    for note in made.notes:
        progress.warn(note)
    if as_json:
        print_result(json.dumps({"schema_version": 1, **asdict(made)}, indent=1))
    else:
        print_result(lighten.in_words(made, filled=fill))
