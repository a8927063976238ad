"""``nnx bench``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from toolchain.cli import options

if TYPE_CHECKING:
    from toolchain.bench.cautions import Given
    from toolchain.bench.record import Benchmark


_NOT_FOR_SETTINGS = (
    "reference", "noise_floor", "profile", "pythons", "max_drop", "baseline", "as_csv", "as_markdown", "output",
)  # fmt: skip


@click.command("bench")
@click.argument("targets", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TARGET...")
@options.measuring
@click.option("--concurrency", type=options.NumberList(), default="1", help="Streams that call the model at once.")
@click.option("--cpus", type=options.CpuList(), default="", help="Processors to pin every row to, such as 0,1 or 2-5.")
@click.option(
    "--copies", type=click.Choice(["include", "exclude"]), default="include", show_default=True,
    help="Time copies to and from a device, for all rows alike.",
)  # fmt: skip
@click.option("--timeout", type=options.Duration(), default="10m", show_default=True, help="Give up a row that hangs.")
@click.option("--reference", metavar="ROW", help="The row that speed-ups are over.  [default: the first that runs]")
@click.option("--noise-floor", is_flag=True, help="Measure that row twice: what cannot be told apart here today?")
@click.option("--profile", is_flag=True, help="Say where each row's time goes.")
@click.option(
    "--python", "pythons", multiple=True, metavar="[PROVIDER=]PATH",
    help="Interpreter, with an onnxruntime of its own, for a provider or for those that are not here.",
)  # fmt: skip
@click.option(
    "--samples", metavar="DATA",
    help="Inputs, and labels if any: .npz, .npy, a folder of images, file.py:factory, or a recipe's test split.",
)  # fmt: skip
@options.data
@click.option(
    "--max-drop", type=options.Points(), default="2", show_default=True,
    help="Points of accuracy that a row may lose and still be proven.",
)  # fmt: skip
@click.option("--session-options", is_flag=True, help="Find ONNX Runtime's fastest settings, and store them in TARGET.")
@click.option("--baseline", type=options.FILE, help="The JSON of an earlier bench: fail when a row is slower now.")
@click.option(
    "--max-slowdown", type=options.Percent(), default="5%", show_default=True, help="How much slower it may be."
)
@click.option("--allow-other-machine", is_flag=True, help="Take a --baseline from another machine.")
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows as CSV.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table as markdown.")
@click.option("-o", "--output", type=options.FILE, help="Also write the JSON, raw samples included, to this file.")
@click.pass_context
def command(
    context: click.Context,
    targets: tuple[Path, ...],
    providers: tuple[str, ...],
    batches: tuple[int, ...],
    threads: tuple[int, ...] | None,
    precision: float,
    max_time: float,
    concurrency: tuple[int, ...],
    cpus: tuple[int, ...],
    copies: str,
    timeout: float,
    reference: str | None,
    noise_floor: bool,
    profile: bool,
    pythons: tuple[str, ...],
    samples: str | None,
    data: Path | None,
    max_drop: float,
    session_options: bool,
    baseline: Path | None,
    max_slowdown: float,
    allow_other_machine: bool,
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
      nnx bench artifacts/digits --provider cpu --provider cuda --noise-floor
      nnx bench model.onnx model.int8-static.onnx --batch 1,8 --threads 1,2 --json
      nnx bench model.onnx --provider cpu --provider openvino --python openvino=other/bin/python
      nnx bench model.onnx --baseline last.json --max-slowdown 5%
      nnx bench model.onnx --session-options
    """
    from dataclasses import asdict

    from toolchain import machine
    from toolchain.accuracy.gate import Requirement
    from toolchain.bench import compare, judging, report, target_rows
    from toolchain.bench.benchmark import Extras
    from toolchain.bench.effort import Effort
    from toolchain.bench.sweep import Sweep
    from toolchain.cli.compare import show_gate
    from toolchain.console import LiveProgress, print_result

    if as_json + as_csv + as_markdown > 1:
        raise click.UsageError("Choose one of --json, --csv and --markdown.")
    if baseline is None:
        options.refuse(context, ("max_slowdown", "allow_other_machine"), "without --baseline")
    if output is not None:
        options.refuse_overwriting(output, targets)
        options.writable(output)
    opened = target_rows.opened(targets)
    if context.get_parameter_source("batches") is not ParameterSource.COMMANDLINE:
        batches = target_rows.batches(opened)[: 1 if session_options else None]
    earlier = None if baseline is None else compare.baseline(baseline)
    progress = LiveProgress()
    warnings: tuple[str, ...] = ()
    if earlier is not None:  # before minutes of work
        here = asdict(machine.describe())
        warnings = compare.of_another_machine(earlier.machine, here, allowed=allow_other_machine)
        for warning in warnings:
            progress.warn(warning)
    sweep = Sweep(
        providers=providers, batches=batches, threads=threads or (), concurrency=concurrency, copies=copies, cpus=cpus,
        pythons=pythons,
    )  # fmt: skip
    effort = Effort(precision=precision, max_time_s=max_time, timeout_s=timeout)
    if session_options:
        options.refuse(context, _NOT_FOR_SETTINGS, "with --session-options")
        from toolchain.cli import session_options as tuning

        tuning.find(targets, sweep.settings(), effort, samples, data, as_json=as_json)
        return
    asked = context.get_parameter_source("max_drop") is ParameterSource.COMMANDLINE
    measured = target_rows.bench(
        opened,
        sweep.settings(),
        samples_source=samples,
        data_folder=data,
        effort=effort,
        extras=Extras(
            reference=reference, noise_floor=noise_floor, profile=profile, command=context.obj, given=_given(context),
            warnings=warnings,
        ),
        requirement=Requirement(max_drop=max_drop, asked=asked),
        output=output,
        progress=progress,
    )  # fmt: skip
    if as_json:
        print_result(measured.to_json())
    elif as_csv:
        print_result(report.to_csv(measured))
    elif as_markdown:
        print_result(report.markdown(report.table(measured.rows), report.notes(measured)))
    else:
        show(measured, title=" ".join(str(target) for target in targets), profiles=profile)
    judging.require_sound(measured)
    if earlier is not None:
        found = compare.compare(earlier, measured)
        show_gate(found, max_slowdown=max_slowdown, aside=as_json or as_csv or as_markdown)
        compare.require_no_slowdown(found, max_slowdown=max_slowdown, allow_other_machine=allow_other_machine)


def _given(context: click.Context) -> "Given":
    """Which options were typed: advice does not name what was done already."""
    from toolchain.bench.cautions import Given

    typed = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    return Given(
        cpus="cpus" in typed, threads="threads" in typed, max_time="max_time" in typed, precision="precision" in typed,
        noise_floor="noise_floor" in typed,
    )  # fmt: skip


def show(measured: "Benchmark", *, title: str, profiles: bool = False) -> None:
    """The table with its notes, and where the time of each row goes if that was asked, for a person."""
    from toolchain.bench import report
    from toolchain.console import print_result, print_table, print_text

    table = report.table(measured.rows)
    print_table(title, table.headings, table.lines, struck=table.struck, droppable=table.droppable)
    print_result("")
    for note in report.notes(measured):
        print_text(note)
    if profiles:
        show_profiles(measured)


def show_profiles(measured: "Benchmark") -> None:
    """Where the time of each row goes."""
    from toolchain.bench import profile_table
    from toolchain.console import print_result, print_table, print_text

    for row in measured.rows:
        for table in profile_table.tables(row):
            print_result("")
            print_table(table.title, table.headings, table.rows)
        if row.profile is not None:
            for note in profile_table.notes(row.profile):
                print_text(note)
