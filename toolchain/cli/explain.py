"""``nnx explain``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types

if TYPE_CHECKING:
    from toolchain.layers.record import Explanation


@click.command("explain")
@click.argument("model", type=types.FILE)
@click.option("--reference", type=types.FILE, help="The fp32 model that MODEL was made from: shows each layer's error.")
@click.option(
    "--samples",
    metavar="DATA",
    help="Real inputs: .npz, .npy, .tar, a folder of images or rows, file.py:factory, or a recipe's test split.",
)
@options.data
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the timed runs.  [default: the cores]")
@options.as_json
def command(
    model: Path,
    reference: Path | None,
    samples: str | None,
    data: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Show for every layer of MODEL what precision it runs in, its error, its size and its share of time.

    Own error: this layer as MODEL has it, fed with the reference's fp32 activations. Accumulated: the same tensor
    inside MODEL. Both are signal to noise in dB; 6 dB are one bit. Layers are sorted by damage, the worst first.

    \b
    Example:
      nnx explain model.int8-static.onnx --reference model.onnx --samples digits
      nnx explain model.onnx --threads 1 --json
    """
    from exporters.model_file import ModelFile
    from toolchain.console import LiveProgress, print_result
    from toolchain.layers.explain import explain, inputs
    from toolchain.machine import usable_cores

    progress = LiveProgress()
    file = ModelFile(model)
    found = explain(
        file,
        inputs(file, samples, data, progress),
        reference=None if reference is None else ModelFile(reference),
        threads=threads or usable_cores(),
        progress=progress,
    )
    if as_json:
        print_result(found.to_json())
    else:
        show(found)


def show(found: "Explanation") -> None:
    """The table and the advice, for a person."""
    from toolchain.console import print_result, print_table, print_text
    from toolchain.layers import explain

    print_table(
        f"{found.model} ({found.precision})",
        list(explain.HEADINGS),
        [explain.cells(layer) for layer in found.layers],
        droppable=explain.DROPPABLE,
    )
    print_result("")
    for note in explain.notes(found):
        print_text(note)
