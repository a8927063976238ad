"""``nnx report``."""

from pathlib import Path

import click

from toolchain.cli import options, types
from toolchain.cli.outputs import writable


@click.command("report")
@click.argument("target")
@click.option(
    "-o", "--output", type=types.Output(".html"), help="The page.  [default: TARGET/report.html, or beside the file]"
)
@options.as_json
def command(target: str, output: Path | None, as_json: bool) -> None:
    """Write one HTML page about TARGET, an artifacts folder or the JSON that `nnx bench` wrote.

    The page holds everything itself: open, print, send or archive it. It shows the bench table, accuracy against
    latency, distributions, size and memory, time by operator, `nnx explain`, training curves, the ablation, the
    machine, and the commands that do it again. What was not measured is named with the command that measures it.

    \b
    Example:
      nnx report artifacts/digits
      nnx report bench.json -o page.html
    """
    from toolchain.console import print_json, print_result
    from toolchain.errors import BadUsage
    from toolchain.html_report import gather, page

    if not target:
        raise BadUsage("TARGET is empty.", "Name an artifacts folder, or a file that `nnx bench` wrote.")
    gathered = gather.read(Path(target))
    place = writable(output or page.output_of(Path(target)))
    size = page.write(gathered, place)
    if as_json:
        print_json({"report": str(place), "bytes": size})
    else:
        print_result(f"{place} ({size / 1e3:,.0f} kB)")
