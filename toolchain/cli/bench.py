"""``nnx bench``."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option

if TYPE_CHECKING:
    from toolchain.accuracy.gate import Requirement
    from toolchain.accuracy.metrics.metric import Metric
    from toolchain.bench.cautions import Given
    from toolchain.bench.record import Benchmark
    from toolchain.bench.sweep import Sweep
    from toolchain.hosts.places import Places


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What else all rows are run in."""

    hosts: tuple[str, ...] = option(
        "--host", multiple=True, metavar="local|ssh://[USER@]HOST[:PORT][/FOLDER]",
        help="A machine that rows run on, over ssh; may be repeated. In FOLDER stays what was sent.  [default: local]",
    )  # fmt: skip
    concurrency: tuple[int, ...] = option(
        "--concurrency", type=types.NumberList(), default="1", help="Streams that call the model at once."
    )
    cpus: tuple[int, ...] = option(
        "--cpus", type=types.CpuList(), default="", help="Processors to pin every row to, such as 0,1 or 2-5."
    )
    copies: str = option(
        "--copies", type=click.Choice(["include", "exclude"]), default="include", show_default=True,
        help="Time copies to and from a device, for all rows alike.",
    )  # fmt: skip
    timeout: float = option(
        "--timeout", type=types.Duration(), default="10m", show_default=True, help="Give up a row that hangs."
    )

    def places(self, rows: "Rows") -> "Places":
        """The machines that are asked for. Raises BadUsage for what does not fit together."""
        from toolchain.hosts.places import places

        found = places(self.hosts, rows.pythons)
        if found.others:  # what the runners of packages do not do
            options.refuse(("concurrency", "copies"), "on other machines")
        if not found.here:
            options.refuse(("profile",), "on other machines")
        return found

    def sweep(self, measuring: options.Measuring, batches: Sequence[int]) -> "Sweep":
        """What to vary; ``batches`` where none are asked for."""
        from toolchain.bench.sweep import Sweep

        return Sweep(
            providers=measuring.providers,
            batches=measuring.batches if options.typed("batches") else batches,
            threads=measuring.threads or (),
            concurrency=self.concurrency,
            copies=self.copies,
            cpus=self.cpus,
        )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows there are, and what is asked of them beside their speed."""

    reference: str | None = option(
        "--reference", metavar="ROW", help="The row that speed-ups are over.  [default: the first that runs]"
    )
    noise_floor: bool = option(
        "--noise-floor", is_flag=True, help="Measure that row twice: what cannot be told apart here today?"
    )
    profile: bool = option("--profile", is_flag=True, help="Say where each row's time goes.")
    pythons: tuple[str, ...] = option(
        "--python", multiple=True, metavar="[PROVIDER=|HOST=]PATH",
        help="Interpreter, with an onnxruntime of its own, for a provider or for those that are not here; for a HOST "
        "of --host, or for all of them, one of its own.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Judging(options.Scored):
    """What rows are proven on, and what they may lose."""

    samples: str | None = option(
        "--samples", metavar="DATA",
        help="Inputs, with right answers if any: .npz, .npy, image folder, file.py:factory, or a recipe's test split.",
    )  # fmt: skip
    data: Path | None = option("--data", type=types.FOLDER, help=options.DATA_HELP)
    recipes: tuple[str, ...] = option(
        "--recipe", multiple=True, metavar="FILE.PY:NAME",
        help="Your own recipe that a TARGET folder was made with: no folder runs code unless you name it.",
    )  # fmt: skip
    max_drop: float = option(
        "--max-drop", type=types.Drop(), default="2", show_default=True,
        help="Points of accuracy that a row may lose and still be proven; of a --metric in no points nothing is asked "
        "unless it is given.",
    )  # fmt: skip

    def requirement(self, metric: "Metric") -> "Requirement":
        """What a row must keep of ``metric``."""
        from toolchain.accuracy.gate import Requirement, default_for

        if not options.typed("max_drop"):
            return default_for(metric)
        return Requirement(max_drop=options.drop_of(metric, self.max_drop))


@dataclass(frozen=True, kw_only=True)
class Regression:
    """The earlier bench that no row may be slower than."""

    baseline: Path | None = option(
        "--baseline", type=types.FILE, help="The JSON of an earlier bench: fail when a row is slower now."
    )
    max_slowdown: float = option(
        "--max-slowdown", type=types.Percent(), default="5%", show_default=True, help="How much slower it may be."
    )
    allow_other_machine: bool = option(
        "--allow-other-machine", is_flag=True, help="Take a --baseline from another machine."
    )

    def earlier(self) -> "Benchmark | None":
        """That bench; UsageError for options that would do nothing without one."""
        from toolchain.bench import compare

        if self.baseline is None:
            options.refuse(("max_slowdown", "allow_other_machine"), "without --baseline")
            return None
        return compare.baseline(self.baseline)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the result is given."""

    as_json: bool = option("--json", is_flag=True, help="Print the result as JSON.")
    as_csv: bool = option("--csv", is_flag=True, help="Print the rows as CSV.")
    as_markdown: bool = option("--markdown", is_flag=True, help="Print the table as markdown.")
    output: Path | None = option(
        "-o", "--output", type=types.Output(".json"), help="Also write the JSON, raw samples included, to this file."
    )

    def __post_init__(self) -> None:
        if self.as_json + self.as_csv + self.as_markdown > 1:
            raise click.UsageError("Choose one of --json, --csv and --markdown.")

    @property
    def for_machines(self) -> bool:
        """Whether stdout is for machines."""
        return self.as_json or self.as_csv or self.as_markdown


@click.command("bench")
@click.argument("targets", nargs=-1, required=True, type=types.FILE_OR_FOLDER, metavar="TARGET...")
@options.measuring
@group("circumstances", Circumstances)
@group("rows", Rows)
@group("judged", Judging)
@options.reading
@group("regression", Regression)
@group("form", Form)
def command(
    targets: tuple[Path, ...],
    measuring: options.Measuring,
    circumstances: Circumstances,
    rows: Rows,
    judged: Judging,
    regression: Regression,
    form: Form,
) -> None:
    """Measure every TARGET, an .onnx file, an artifacts folder or a package, side by side.

    A folder gives the rows eager, compiled, ort fp32, fp16, int8-dynamic, int8-static, a package one a variant. Each
    row runs in a process of its own; rows take turns in random order; the first run is shown apart. Speed-ups are over
    the first row on the same --host.

    \b
    Example:
      nnx bench artifacts/digits --provider cpu --provider cuda --noise-floor
      nnx bench model.onnx model.int8-static.onnx --batch 1,8 --threads 1,2 --json
      nnx bench model.onnx --provider cpu --provider openvino --python openvino=other/bin/python
      nnx bench unet.onnx unet.fp16.onnx --samples test.npz --metric iou
      nnx bench model.onnx --baseline last.json --max-slowdown 5%
      nnx bench model.onnx model.int8-static.onnx --host local --host ssh://pi@raspberrypi.local
    """
    from toolchain.bench import compare, judging, target_rows
    from toolchain.bench.benchmark import Extras
    from toolchain.cli.compare import show_gate
    from toolchain.console import LiveProgress
    from toolchain.hosts import host, places
    from toolchain.shipping import variants

    progress = LiveProgress()
    where = circumstances.places(rows)
    with ExitStack() as stack:
        opened = stack.enter_context(variants.opened(targets))
        metric = judged.chosen(judged.samples)
        if judged.metric is None and judged.samples is None:
            metric = target_rows.metric_of(opened, judged.recipes)
        earlier = regression.earlier()
        sweep = circumstances.sweep(measuring, target_rows.batches(opened))
        hosts = stack.enter_context(host.opened(where.others, where.pythons_there, progress))
        warnings: tuple[str, ...] = ()
        if earlier is not None:  # before minutes of work
            now = places.machines(hosts, here=where.here)
            warnings = compare.of_another_machine(earlier.machines, now, allowed=regression.allow_other_machine)
            for warning in warnings:
                progress.warn(warning)
        measured = target_rows.bench(
            opened,
            where.settings(sweep, hosts),
            samples_source=judged.samples,
            data_folder=judged.data,
            effort=measuring.effort(timeout_s=circumstances.timeout),
            extras=Extras(
                reference=rows.reference, noise_floor=rows.noise_floor, profile=rows.profile,
                command=click.get_current_context().obj, given=_given(), warnings=warnings,
            ),
            requirement=judged.requirement(metric),
            metric=metric,
            output=form.output,
            progress=progress,
            recipes=judged.recipes,
            hosts=hosts,
        )  # fmt: skip
    _print(measured, form, title=" ".join(str(target) for target in targets), profiles=rows.profile)
    judging.require_sound(measured)
    if earlier is not None:
        found = compare.compare(earlier, measured)
        show_gate(found, max_slowdown=regression.max_slowdown, aside=form.for_machines)
        compare.require_no_slowdown(
            found, max_slowdown=regression.max_slowdown, allow_other_machine=regression.allow_other_machine
        )


def _given() -> "Given":
    """Which options were typed: advice does not name what was done already."""
    from toolchain.bench.cautions import Given

    names = [each.name for each in fields(Given)]
    return Given(**{name: bool(options.typed(name)) for name in names})


def _print(measured: "Benchmark", form: Form, *, title: str, profiles: bool) -> None:
    from toolchain.bench import report
    from toolchain.console import print_result

    if form.as_json:
        print_result(measured.to_json())
    elif form.as_csv:
        print_result(report.to_csv(measured))
    elif form.as_markdown:
        print_result(report.markdown(report.table(measured.rows), report.notes(measured)))
    else:
        show(measured, title=title, profiles=profiles)


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
