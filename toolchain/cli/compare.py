"""``nnx compare``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types

if TYPE_CHECKING:
    from toolchain.bench.compare import Comparison


@click.command("compare")
@click.argument("old", type=types.FILE_OR_FOLDER)
@click.argument("new", type=types.FILE_OR_FOLDER)
@options.as_json
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table as markdown.")
def command(old: Path, new: Path, as_json: bool, as_markdown: bool) -> None:
    """Compare two benchmarks, JSON files of `nnx bench` or artifacts folders, row by row with intervals.

    Rows are matched by label, provider, batch, threads and streams. Another machine, other versions and other files are
    said. Two runs at different times differ by more than what was changed; to judge a change of a few per cent, bench
    both files in one command.

    \b
    Example:
      nnx compare before.json after.json
      nnx compare laptop/bench.json artifacts/digits --markdown
    """
    from toolchain.bench import compare, compare_table
    from toolchain.console import print_result

    if as_json and as_markdown:
        raise click.UsageError("Choose one of --json and --markdown.")
    found = compare.compare(compare.read(old), compare.read(new))
    if as_json:
        print_result(compare_table.to_json(found))
    elif as_markdown:
        print_result(compare_table.markdown(found))
    else:
        show(found, title=f"{old} → {new}")


def show_gate(found: "Comparison", *, max_slowdown: float, aside: bool) -> None:
    """What was compared with a baseline; ``aside`` on stderr, where stdout is for machines."""
    from toolchain.bench import compare_table
    from toolchain.console import LiveProgress, print_result, print_text

    lines = compare_table.gate(found, max_slowdown=max_slowdown)
    if not aside:
        print_result("")
    for line in lines:
        (LiveProgress().note if aside else print_text)(line)


def show(found: "Comparison", *, title: str) -> None:
    """The table with its notes, for a person."""
    from toolchain.bench import compare_table
    from toolchain.console import print_result, print_table, print_text

    table = compare_table.table(found)
    print_table(title, table.headings, table.lines, struck=table.struck, droppable=table.droppable)
    print_result("")
    for note in compare_table.notes(found):
        print_text(note)
