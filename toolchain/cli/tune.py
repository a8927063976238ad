"""``nnx tune``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types

if TYPE_CHECKING:
    from toolchain.bench.record import Setting
    from toolchain.conversion.settings_search import Found


@click.command("tune")
@click.argument("model", type=types.FILE)
@click.option("--batch", type=click.IntRange(min=1), help="Batch size.  [default: 1, or the one MODEL is fixed to]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of a session.  [default: the cores]")
@click.option(
    "--precision", type=types.Percent(), default="2%", show_default=True,
    help="Measure until each speed-up is known this well.",
)  # fmt: skip
@click.option(
    "--max-time", type=types.Duration(), default="60s", show_default=True,
    help="Add no rounds after this long in each of the two measurements.",
)  # fmt: skip
@click.option(
    "--samples", metavar="DATA",
    help="Real inputs: .npz, .npy, .tar, a folder of images or rows, file.py:factory, or a recipe's test split.",
)  # fmt: skip
@options.data
@options.as_json
def command(
    model: Path,
    batch: int | None,
    threads: int | None,
    precision: float,
    max_time: float,
    samples: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Find the session settings with which ONNX Runtime runs MODEL fastest on this processor, and store them in it.

    Every switch is timed by itself beside the defaults, then the best one and all that gained together once more. The
    file is changed only where its outputs stay the same and it is surely 3 % faster; nnx obeys what a file says.

    \b
    Example:
      nnx tune model.onnx --batch 1 --threads 1
      nnx tune artifacts/sst2/model.int8-dynamic.onnx --samples sst2 --data ~/sst2 --json
    """
    from exporters.model_file import ModelFile
    from toolchain.bench import target_rows
    from toolchain.bench.effort import Effort
    from toolchain.bench.sweep import Sweep
    from toolchain.console import LiveProgress
    from toolchain.conversion import settings_search

    file = ModelFile(model)
    (setting,) = Sweep(
        batches=(batch or target_rows.batches([file])[0],), threads=(threads,) if threads else ()
    ).settings()
    found = settings_search.tune(
        file,
        setting,
        samples_source=samples,
        data_folder=data,
        effort=Effort(precision=precision, max_time_s=max_time),
        progress=LiveProgress(),
    )
    show(found, model, setting, as_json=as_json)


def show(found: "Found", model: Path, setting: "Setting", *, as_json: bool) -> None:
    """What was measured and found, and the code that opens the file so."""
    from dataclasses import asdict

    from runtimes.session_settings import code
    from toolchain.bench import report
    from toolchain.console import print_json, print_result, print_table, print_text

    lines = code(found.settings, model, setting.threads)
    measurements = [rows for rows in (found.tried, found.rows) if rows]
    if as_json:
        print_json(
            {
                "settings": asdict(found.settings),
                "speedup": found.speedup and asdict(found.speedup),
                "measurements": [
                    [{"row": row.candidate.label, "speedup": row.speedup and asdict(row.speedup)} for row in rows]
                    for rows in measurements
                ],
                "code": lines,
            }
        )
        return
    for title, rows in zip(("every switch by itself", "what gained, once more"), measurements, strict=False):
        table = report.table(rows)
        print_table(f"{model}, {setting.circumstances}: {title}", table.headings, table.lines, struck=table.struck)
        print_result("")
    print_text(str(found))
    if found.speedup is not None:
        print_text(f"Stored in {model}: nnx obeys it. Elsewhere:\n")
    print_result(lines)
