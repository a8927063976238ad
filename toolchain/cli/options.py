"""Options that several commands share."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from toolchain.errors import BadUsage
from toolchain.machine.conditions import processors_in

if TYPE_CHECKING:
    from toolchain.conversion.goal import Goal
    from toolchain.conversion.record import Plan

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
OPSET = click.IntRange(18, 26)
"""What :mod:`exporters.torch_onnx` can honour; written out here because importing it takes seconds."""
FOLDER = click.Path(path_type=Path, file_okay=False)


class NumberList(click.ParamType):  # type: ignore[type-arg]  # not subscriptable in older clicks
    """Whole numbers from 1 on, separated by commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < 1:
            self.fail(f"'{value}' is not a list of whole numbers from 1 on, such as 1,32.", param, ctx)
        return numbers


class Points(click.ParamType):  # type: ignore[type-arg]
    """Percentage points from 0 to 100, given as a share."""

    name = "POINTS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            points = float(value)
        except ValueError:
            points = -1.0
        if not 0 <= points <= 100:  # NaN neither
            self.fail(f"'{value}' is no number of points from 0 to 100.", param, ctx)
        return points / 100


class CpuList(click.ParamType):  # type: ignore[type-arg]
    """Processors: ``0,1`` or ``2-5``."""

    name = "CPUS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple) or not value:
            return tuple(value)
        try:
            chosen = processors_in(str(value))
        except ValueError:
            chosen = set()
        if not chosen:
            self.fail(f"'{value}' is not a list of processors such as 0,1 or 2-5.", param, ctx)
        return tuple(sorted(chosen))


class Duration(click.ParamType):  # type: ignore[type-arg]
    """``90s``, ``10m``, ``1h``, ``200ms``, ``45`` (seconds); given as seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        return _scaled(self, value, {"ms": 1e-3, "s": 1, "m": 60, "h": 3600}, "90s, 10m or 1h", param, ctx)


class Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes: ``500MB``, ``2GB``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1}
        return int(_scaled(self, value, units, "500MB or 2GB", param, ctx))


class Percent(click.ParamType):  # type: ignore[type-arg]
    """``5%`` or ``5``, given as the share 0.05."""

    name = "PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        return _scaled(self, value, {"%": 1}, "2% or 0.5%", param, ctx) / 100


def _scaled(
    kind: click.ParamType,  # type: ignore[type-arg]
    value: str,
    units: Mapping[str, float],
    examples: str,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> float:
    """A positive number with one of ``units``, or none, behind it."""
    unit = next((unit for unit in units if value.lower().endswith(unit.lower())), "")
    try:
        number = float(value[: len(value) - len(unit)])
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        kind.fail(f"'{value}' is not something like {examples}.", param, ctx)
    return number * (units[unit] if unit else 1)


def data(function: Command) -> Command:
    return click.option("--data", type=FOLDER, help="Folder that holds the recipe's data set (cifar10, sst2).")(
        function
    )


def out_folder(function: Command) -> Command:
    return click.option("--out", type=FOLDER, help="Folder for what is made.  [default: artifacts/RECIPE]")(function)


def as_json(function: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def opset(function: Command) -> Command:
    return click.option("--opset", type=OPSET, default=20, show_default=True, help="ONNX operator set.")(function)


def training(function: Command) -> Command:
    """How to train, for the commands that may have to."""
    for decorate in reversed(
        (
            click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data.  [default: the recipe's]"),
            click.option("--batch-size", type=click.IntRange(min=1), help="Samples a step.  [default: the recipe's]"),
            click.option("--lr", type=float, help="Learning rate, or its peak.  [default: the recipe's]"),
            click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help="Seed."),
            click.option(
                "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
                help="Where to train.",
            ),
            click.option(
                "--amp", type=click.Choice(["auto", "fp16", "bf16", "off"]), default="auto", show_default=True,
                help="Autocast precision; auto is the one that is fast on the device.",
            ),
            click.option("--compile/--no-compile", default=None, help="Use torch.compile.  [default: where it pays]"),
            click.option(
                "--compile-mode", type=click.Choice(["default", "reduce-overhead", "max-autotune"]), default="default",
                show_default=True, help="What torch.compile aims at.",
            ),
        )
    ):  # fmt: skip
        function = decorate(function)
    return function


def measuring(function: Command) -> Command:
    """How to bench."""
    for decorate in reversed(
        (
            click.option(
                "--provider", "providers", multiple=True, default=("cpu",), show_default=True, metavar="NAME",
                help="Execution provider, with options if any: cpu, cuda:device_id=0, ...; may be repeated.",
            ),
            click.option(
                "--batch", "batches", type=NumberList(), default="1,32", show_default=True, help="Batch sizes."
            ),
            click.option("--threads", type=NumberList(), help="Threads a row.  [default: the cores, or --cpus]"),
            click.option(
                "--precision", type=Percent(), default="2%", show_default=True,
                help="Measure until each speed-up is known this well.",
            ),
            click.option(
                "--max-time", type=Duration(), default="60s", show_default=True,
                help="Add no rounds after this long in each combination of batch, threads and streams.",
            ),
        )
    ):  # fmt: skip
        function = decorate(function)
    return function


def calibration(function: Command) -> Command:
    """What a conversion is made and judged with."""
    for decorate in reversed(
        (
            click.option(
                "--calibration", metavar="DATA",
                help="Real inputs: .npz, .npy, a folder of images, file.py:factory, or a recipe's training split.",
            ),
            click.option(
                "--samples", type=click.IntRange(min=1), default=256, show_default=True,
                help="Calibration samples to use.",
            ),
            click.option(
                "--eval", "evaluation", metavar="DATA",
                help="Held-out inputs, and labels, to judge by.  [default: a recipe's test split, the rest of a file]",
            ),
        )
    ):  # fmt: skip
        function = decorate(function)
    return function


def gate(function: Command) -> Command:
    """What the result must keep, and how to get there."""
    for decorate in reversed(
        (
            click.option("--max-drop", type=Points(), help="Points of accuracy that may be lost."),
            click.option("--min-sqnr", type=float, metavar="DB", help="Least signal-to-noise ratio of the outputs."),
            click.option("--min-cosine", type=float, help="Least mean cosine of the outputs to those of MODEL."),
            click.option(
                "--search/--no-search", default=True, show_default=True,
                help="Put the fewest nodes back in float when the requirement is not met.",
            ),
            click.option("--budget", type=Duration(), default="10m", show_default=True, help="Longest search."),
            click.option("--plan", type=FILE, help="A plan to replay: its nodes stay in float."),
            click.option("--save-plan", type=FILE, help="Where to write the plan that a search found."),
        )
    ):  # fmt: skip
        function = decorate(function)
    return function


def goal(
    max_drop: float | None,
    min_sqnr: float | None,
    min_cosine: float | None,
    search: bool,
    budget: float,
    plan: Path | None,
    save_plan: Path | None,
    exclude: tuple[str, ...],
) -> "Goal":
    """What the options of :func:`gate` ask for; UsageError for those that would do nothing."""
    from toolchain.accuracy.gate import Requirement
    from toolchain.conversion.goal import Goal
    from toolchain.conversion.record import Plan

    required = any(limit is not None for limit in (max_drop, min_sqnr, min_cosine))
    if not required:
        where = "without --max-drop, --min-sqnr or --min-cosine"
        refuse(click.get_current_context(), ("search", "budget", "save_plan"), where)
    if save_plan is not None:
        writable(save_plan)
    replayed = Plan(exclude=())
    if plan is not None:
        try:
            replayed = Plan.from_json(plan.read_bytes())
        except FileNotFoundError as error:
            raise BadUsage(f"There is no plan {plan}.", "Make one with --save-plan.") from error
    return Goal(
        requirement=Requirement(max_drop=max_drop, min_sqnr_db=min_sqnr, min_cosine=min_cosine) if required else None,
        budget_s=budget if search else 0.0,
        exclude=tuple(dict.fromkeys((*exclude, *replayed.exclude))),
        methods=replayed.methods,
    )


def keep_plan(plan: "Plan | None", goal: "Goal", path: Path | None) -> None:
    """Write the plan that a search found, or that nothing more than ``goal`` says was needed, if it is wanted."""
    from exporters.atomic_file import write_text
    from toolchain.conversion.record import Plan

    if path is not None:
        write_text(path, (plan or Plan(exclude=goal.exclude, methods=goal.methods)).to_json())


def refuse(context: click.Context, names: Collection[str], where: str) -> None:
    """UsageError for options that were typed and would do nothing ``where``."""
    typed = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if typed:
        raise click.UsageError(f"{', '.join(typed)} would do nothing {where}.")


def writable(path: Path) -> Path:
    """``path``, after a look whether a file can be made there: a long job must not end in 'permission denied'."""
    import os
    import tempfile

    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadUsage(
            f"{path} cannot be written: {os.strerror(error.errno or 0)}.",
            "Choose another place.",
        ) from error
    if path.is_dir():
        raise BadUsage(f"{path} is a folder.", "Name a file.")
    return path


def refuse_overwriting(output: Path, read: Iterable[Path]) -> None:
    """BadUsage when ``output`` is one of the files that are read."""
    if any(output.resolve() == path.resolve() for path in read):
        raise BadUsage(f"{output} is what is to be measured.", "Choose another place for the result.")


def artifacts_folder(recipe: str, out: Path | None) -> Path:
    """``--out``, or ``artifacts/<recipe>``; what stands in a file is called by the file's name and its own."""
    file, colon, attribute = recipe.rpartition(":")
    name = recipe if not colon else Path(file).stem + ("" if attribute == "recipe" else f"-{attribute}")
    folder = out or Path("artifacts") / name
    writable(folder / "manifest.json")
    return folder
