"""``nnx diff``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types

if TYPE_CHECKING:
    from toolchain.inspection.difference import Difference


@click.command("diff")
@click.argument("a", type=types.FILE)
@click.argument("b", type=types.FILE)
@click.option(
    "--samples",
    metavar="DATA",
    help="Real inputs: .npz, .npy, .tar, a folder of images or rows, file.py:factory, "
    "or a recipe's test split.  [default: seeded]",
)
@options.data
@click.option("--min-sqnr", type=float, metavar="DB", help="When a tensor has parted.  [default: by the precisions]")
@click.option("--no-run", is_flag=True, help="Compare what the files hold, and run neither.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where anything but names differs, 4 where no run tells.")
@options.as_json
def command(
    a: Path,
    b: Path,
    samples: str | None,
    data: Path | None,
    min_sqnr: float | None,
    no_run: bool,
    exit_code: bool,
    as_json: bool,
) -> None:
    """Compare two models: interface, operations, weights, and the first tensor at which their values part.

    Operations are matched by what they do and where they stand, not by name, through Q/DQ pairs, casts and operators of
    integers: an fp32 file and its int8 or fp16 one compare like any two. Both run on the same inputs.

    \b
    Example:
      nnx diff model.onnx model.int8-static.onnx --samples digits
      nnx diff old.onnx new.onnx --no-run --json
    """
    from exporters.model_file import ModelFile
    from toolchain.console import LiveProgress, print_result
    from toolchain.errors import CheckFailed, Undecided
    from toolchain.inspection.diff import diff

    found = diff(
        ModelFile(a),
        ModelFile(b),
        source=samples,
        data=data,
        run=not no_run,
        limit_db=min_sqnr,
        progress=LiveProgress(),
    )
    if as_json:
        print_result(found.to_json())
    else:
        show(found)
    if exit_code and not found.alike:
        raise CheckFailed(f"{a} and {b} differ.", "See what is listed.")
    if exit_code and found.values is None and not no_run:
        what = f"Nothing but names differs in what the files hold; no values were compared: {found.why_no_values}."
        raise Undecided(what, "Give inputs that fit: --samples. Or compare the files alone: --no-run.")


def show(found: "Difference") -> None:
    """Sentences and tables, for a person."""
    from toolchain.console import print_result, print_table, print_text
    from toolchain.inspection.diff import head, tables

    for line in head(found):
        print_text(line)
    for table in tables(found):
        print_result("")
        print_table(table.title, table.headings, table.rows, droppable=table.droppable)
