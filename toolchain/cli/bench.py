"""``nnx bench``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options

if TYPE_CHECKING:
    from toolchain.bench_record import Benchmark


@click.command("bench")
@click.argument("targets", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TARGET...")
@options.measuring
@click.option(
    "--samples", metavar="DATA",
    help="Inputs, and labels if any: .npz, .npy, a folder of images, file.py:factory, or a recipe's test split.",
)  # fmt: skip
@options.data
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows as CSV.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table as markdown.")
@click.option("-o", "--output", type=options.FILE, help="Also write the JSON, raw samples included, to this file.")
def command(
    targets: tuple[Path, ...],
    providers: tuple[str, ...],
    batches: tuple[int, ...],
    threads: int | None,
    max_time: float,
    samples: str | None,
    data: Path | None,
    as_json: bool,
    as_csv: bool,
    as_markdown: bool,
    output: Path | None,
) -> None:
    """Measure every TARGET, an .onnx file or an artifacts folder, side by side.

    A folder gives the rows eager, compiled, ort fp32, fp16, int8-dynamic, int8-static. Each row runs in a process of
    its own; rows take turns in random order; the first run is shown apart. Speed-ups are over the first row.

    \b
    Example:
      nnx bench artifacts/digits --provider cpu --provider cuda
      nnx bench model.onnx model.int8-static.onnx --batch 1 --threads 1 --json
    """
    from toolchain import bench_targets, judging, machine, report
    from toolchain.benchmark import Effort, settings_for
    from toolchain.console import LiveProgress, print_result

    if as_json + as_csv + as_markdown > 1:
        raise click.UsageError("Choose one of --json, --csv and --markdown.")
    if output is not None:
        options.writable(output)
    measured = bench_targets.bench(
        targets,
        settings_for(providers, batches, threads or machine.usable_cores()),
        samples_source=samples,
        data_folder=data,
        effort=Effort(max_time_s=max_time),
        output=output,
        progress=LiveProgress(),
    )
    if as_json:
        print_result(measured.to_json())
    elif as_csv:
        print_result(report.to_csv(measured))
    elif as_markdown:
        print_result(report.markdown(measured))
    else:
        show(measured, title=" ".join(str(target) for target in targets))
    judging.require_sound(measured)


def show(measured: "Benchmark", *, title: str) -> None:
    """The table with its notes, for a person."""
    from toolchain import report
    from toolchain.console import print_result, print_table

    struck = {index for index, row in enumerate(measured.rows) if row.status == "unproven"}
    print_table(
        title,
        list(report.HEADINGS),
        [report.cells(row) for row in measured.rows],
        struck=struck,
        droppable=report.DROPPABLE,
    )
    print_result("\n" + "\n".join(report.notes(measured)))
