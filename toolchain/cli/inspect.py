"""``nnx inspect``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types

if TYPE_CHECKING:
    from toolchain.inspection.record import Description


@click.command("inspect")
@click.argument("model", type=types.FILE)
@options.fixed_lengths
@click.option(
    "--depth", type=click.IntRange(min=0), default=2, show_default=True, help="Levels of the tree of modules to show."
)
@click.option("--no-targets", is_flag=True, help="Do not ask ONNX Runtime whether it opens the file.")
@click.option(
    "--target-ort", "releases", multiple=True, metavar="RELEASE",
    help="Another release of ONNX Runtime to ask about, such as 1.17; may be repeated.",
)  # fmt: skip
@options.as_json
def command(
    model: Path,
    lengths: tuple[tuple[str, int], ...],
    depth: int,
    no_targets: bool,
    releases: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what MODEL holds, what a run of it costs, and who runs it.

    Interface, versions, lineage, parameters, work, bytes by type, operators, formats, modules, targets.

    Work is multiply-accumulates of convolutions, matrix products, einsum, recurrent layers and attention, counted by
    the shapes that follow from the lengths of the inputs; what is not counted is said.

    \b
    Example:
      nnx inspect model.onnx
      nnx inspect model.onnx --fix batch=8 --fix seq=128 --json
      nnx inspect model.onnx --target-ort 1.16 --target-ort 1.20
    """
    from exporters.model_file import ModelFile
    from toolchain.console import print_result
    from toolchain.inspection.describe import describe
    from toolchain.inspection.releases import release

    asked = [release(name) for name in releases]
    found = describe(ModelFile(model), dict(lengths), ask=not no_targets, releases=asked)
    if as_json:
        print_result(found.to_json())
    else:
        show(found, depth)


def show(found: "Description", depth: int) -> None:
    """Tables, for a person."""
    from toolchain.console import print_result, print_table, print_text
    from toolchain.inspection import tables

    for line in tables.head(found):
        print_text(line)
    for table in tables.tables(found, depth):
        print_result("")
        print_table(table.title, table.headings, table.rows, droppable=table.droppable)
    print_result("")
    for line in tables.notes(found):
        print_text(line)
