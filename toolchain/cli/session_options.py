"""``nnx bench --session-options``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from toolchain.bench.effort import Effort
    from toolchain.bench.record import Setting


def find(
    targets: Sequence[Path],
    settings: "Sequence[Setting]",
    effort: "Effort",
    samples: str | None,
    data: Path | None,
    *,
    as_json: bool,
) -> None:
    """Find one file's fastest session settings, store them in it, and print the code that opens it so."""
    from dataclasses import asdict

    from exporters.model_file import ModelFile
    from runtimes.session_settings import code
    from toolchain.bench import report
    from toolchain.console import LiveProgress, print_json, print_result, print_table, print_text
    from toolchain.conversion import settings_search

    if len(targets) != 1 or targets[0].is_dir() or len(settings) != 1 or settings[0].where != "cpu":
        raise click.UsageError(
            "--session-options takes one .onnx file, --provider cpu, and one number each of --batch, --threads and "
            "--concurrency."
        )
    model, setting = targets[0], settings[0]
    found = settings_search.tune(
        ModelFile(model), setting, samples_source=samples, data_folder=data, effort=effort, progress=LiveProgress()
    )
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
