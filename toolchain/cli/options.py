"""Options that several commands share: single ones, and groups that reach a command as one value."""

import functools
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from toolchain.cli import types
from toolchain.cli.option_groups import group, option
from toolchain.cli.outputs import artifacts_folder
from toolchain.errors import BadUsage

if TYPE_CHECKING:
    from toolchain.accuracy.metrics.metric import Metric
    from toolchain.bench.effort import Effort
    from toolchain.conversion.given import Data
    from toolchain.conversion.goal import Goal
    from toolchain.conversion.record import Plan
    from toolchain.processes.workers import Workers
    from toolchain.progress import Progress
    from toolchain.recipes.recipe import Recipe
    from toolchain.training.options import Parallel, TrainingOptions

Command = TypeVar("Command", bound=Callable[..., Any])
DATA_HELP = "Folder that holds the recipe's data set (cifar10, sst2, your own)."


def _held(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """What keeps an option's value, while the command runs, where the library looks for it."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        from toolchain.datasets import reading

        variable = getattr(reading, name)
        context.call_on_close(functools.partial(variable.reset, variable.set(value)))

    return keep


def reading(function: Command) -> Command:
    """How samples are read that do not lie in memory; no parameter of the command."""
    function = click.option(
        "--workers", type=click.IntRange(min=1), expose_value=False, callback=_held("WORKERS"),
        help="Threads that read samples.  [default: the cores]",
    )(function)  # fmt: skip
    return click.option(
        "--max-bad", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", expose_value=False,
        callback=_held("MAX_BAD"), help="Skip up to so many samples that cannot be read, and name them.",
    )(function)  # fmt: skip


def data(function: Command) -> Command:
    return click.option("--data", type=types.FOLDER, help=DATA_HELP)(reading(function))


def as_json(function: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def fixed_lengths(function: Command) -> Command:
    return click.option(
        "--fix", "lengths", type=types.Length(), multiple=True,
        help="The length of an open axis, by its name or as INPUT:NUMBER; may be repeated.  [default: what fits]",
    )(function)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How the file is written."""

    external_data: str = option(
        "--external-data", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
        help="Weights in a file beside the model: above 2 GB, always, or never.",
    )  # fmt: skip

    def writing(self) -> AbstractContextManager[None]:
        """In its block files are written so."""
        from exporters import external_data

        return external_data.keeping(external_data.Keeping(self.external_data))


stored = group("stored", Stored)


def target_ort(function: Command) -> Command:
    return click.option(
        "--target-ort", metavar="RELEASE", help="A release of ONNX Runtime that must take the file, such as 1.17."
    )(function)


def opset(function: Command) -> Command:
    return click.option("--opset", type=types.OPSET, default=20, show_default=True, help="ONNX operator set.")(function)


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where a recipe's data lies, and where what is made goes."""

    data: Path | None = option("--data", type=types.FOLDER, help=DATA_HELP)
    out: Path | None = option(
        "--out", type=types.OUTPUT_FOLDER, help="Folder for what is made.  [default: artifacts/RECIPE]"
    )

    def artifacts(self, recipe: str) -> Path:
        """The folder for what is made of ``recipe``."""
        return artifacts_folder(recipe, self.out)


@dataclass(frozen=True, kw_only=True)
class TrainingChoices:
    """How to train, for the commands that may have to."""

    epochs: int | None = option(
        "--epochs", type=click.IntRange(min=1), help="Passes over the data.  [default: the recipe's]"
    )
    batch_size: int | None = option(
        "--batch-size", type=click.IntRange(min=1), help="Samples a step.  [default: the recipe's]"
    )
    lr: float | None = option("--lr", type=float, help="Learning rate, or its peak.  [default: the recipe's]")
    seed: int = option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help="Seed.")
    device: str = option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
        help="Where to train.",
    )  # fmt: skip
    amp: str = option(
        "--amp", type=click.Choice(["auto", "fp16", "bf16", "off"]), default="auto", show_default=True,
        help="Autocast precision; auto is the one that is fast on the device.",
    )  # fmt: skip
    compile: bool | None = option(
        "--compile/--no-compile", default=None, help="Use torch.compile.  [default: where it pays]"
    )
    compile_mode: str = option(
        "--compile-mode", type=click.Choice(["default", "reduce-overhead", "max-autotune"]), default="default",
        show_default=True, help="What torch.compile aims at.",
    )  # fmt: skip

    def resolved(self, recipe: "Recipe", progress: "Progress", parallel: "Parallel | None" = None) -> "TrainingOptions":
        """With the recipe's defaults and this machine's abilities."""
        from toolchain.training.options import resolve

        return resolve(recipe, progress=progress, parallel=parallel, **vars(self))


@dataclass(frozen=True, kw_only=True)
class Processes:
    """How several processes train together."""

    nproc: int | None = option(
        "--nproc", type=click.IntRange(min=1), metavar="N",
        help="Train in so many processes of this machine; for several machines, torchrun -m toolchain train.",
    )  # fmt: skip
    max_restarts: int = option(
        "--max-restarts", type=click.IntRange(min=0), default=0, show_default=True,
        help="With --nproc: begin again after the last whole epoch when a process fails, so often.",
    )  # fmt: skip
    hang_timeout: float = option(
        "--hang-timeout", type=types.Duration(), default="10m", show_default=True,
        help="How long a process waits for the others.",
    )  # fmt: skip
    accumulate: int = option(
        "--accumulate", type=click.IntRange(min=1), default=1, show_default=True,
        help="Do each step's samples in so many parts, one after the other, in less memory.",
    )  # fmt: skip
    shared_norm: bool = option(
        "--sync-batchnorm", is_flag=True, help="BatchNorm sees the samples of all processes, as one process would."
    )
    fsdp: bool = option("--fsdp", is_flag=True, help="Each process keeps a part of the weights, for what fits in none.")
    reduction: str = option(
        "--reduce", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True,
        help="The number format in which gradients travel between processes.",
    )  # fmt: skip

    def parallel(self) -> "Parallel":
        """The same for the library."""
        from toolchain.training.options import Parallel

        if self.fsdp and self.reduction != "fp32":
            raise click.UsageError("--reduce would do nothing with --fsdp.")
        return Parallel(
            accumulate=self.accumulate, shared_norm=self.shared_norm, fsdp=self.fsdp, reduction=self.reduction
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How to bench."""

    providers: tuple[str, ...] = option(
        "--provider", multiple=True, default=("cpu",), show_default=True, metavar="NAME",
        help="Execution provider, with options if any: cpu, cuda:device_id=0, ...; may be repeated.",
    )  # fmt: skip
    batches: tuple[int, ...] = option(
        "--batch", type=types.NumberList(), default="1,32", show_default=True, help="Batch sizes."
    )
    threads: tuple[int, ...] | None = option(
        "--threads", type=types.NumberList(), help="Threads a row.  [default: the cores, or --cpus]"
    )
    precision: float = option(
        "--precision", type=types.Percent(), default="2%", show_default=True,
        help="Measure until each speed-up is known this well.",
    )  # fmt: skip
    max_time: float = option(
        "--max-time", type=types.Duration(), default="60s", show_default=True,
        help="Add no rounds after this long in each combination of batch, threads and streams.",
    )  # fmt: skip

    def effort(self, **more: Any) -> "Effort":
        """How long and how precisely to measure."""
        from toolchain.bench.effort import Effort

        return Effort(precision=self.precision, max_time_s=self.max_time, **more)


@dataclass(frozen=True, kw_only=True)
class CalibrationChoices:
    """What a conversion is made and judged with."""

    calibration: str | None = option(
        "--calibration", metavar="DATA",
        help="Real inputs: .npz, .npy, .tar, a folder of images or rows, file.py:factory, or a recipe's "
        "training split.",
    )  # fmt: skip
    samples: int = option(
        "--samples", type=click.IntRange(min=1), default=256, show_default=True, help="Calibration samples to use."
    )
    evaluation: str | None = option(
        "--eval", metavar="DATA",
        help="Held-out inputs, and right answers, to judge by.  [default: a recipe's test split, the rest of a file]",
    )  # fmt: skip

    @property
    def named(self) -> tuple[str | None, ...]:
        """What samples may be judged on."""
        return self.evaluation, self.calibration

    def given(self, folder: Path | None, metric: "Metric") -> "Data":
        """The same for the library; ``folder`` holds the data set of a recipe, ``metric`` takes the right answers."""
        from toolchain.conversion.given import Data

        return Data(
            calibration=self.calibration, evaluation=self.evaluation, count=self.samples, metric=metric, folder=folder
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What samples with right answers are judged by."""

    metric: str | None = option(
        "--metric", metavar="NAME",
        help="What is judged: top1, top5, f1, mae, rmse, r2, spearman, cosine, iou, map50, wer, or your own "
        "file.py:function of outputs and targets.  [default: the recipe's, or top1]",
    )  # fmt: skip
    lower_is_better: bool = option("--lower-is-better", is_flag=True, help="Of your own metric less is better.")

    def chosen(self, *given: str | None) -> "Metric":
        """The metric, without --metric that of the first recipe among the samples ``given``; UsageError for a direction
        without one.
        """
        from toolchain.accuracy.metrics.built_in import TOP1
        from toolchain.inputs import metric_names, sources

        if self.metric is None:
            refuse(("lower_is_better",), "without --metric")
            recipes = [name for name in given if name is not None and sources.is_recipe(name)]
            return sources.recipe_named(recipes[0]).judged_by() if recipes else TOP1
        return metric_names.of(self.metric, lower_is_better=self.lower_is_better)


def drop_of(metric: "Metric", typed: float) -> float:
    """``--max-drop`` as the metric counts: points of 100 for a share, else its own unit."""
    if metric.share and typed > 100:
        raise click.UsageError(f"--max-drop: {typed:g} is no number of points from 0 to 100.")
    return typed / 100 if metric.share else typed


@dataclass(frozen=True, kw_only=True)
class Gate(Scored):
    """What the result must keep, and how to get there."""

    max_drop: float | None = option(
        "--max-drop", type=types.Drop(), help="What may be lost: points of accuracy, or in the unit of --metric."
    )
    min_sqnr: float | None = option(
        "--min-sqnr", type=float, metavar="DB", help="Least signal-to-noise ratio of the outputs."
    )
    min_cosine: float | None = option(
        "--min-cosine", type=float, help="Least mean cosine of the outputs to those of MODEL."
    )
    search: bool = option(
        "--search/--no-search", default=True, show_default=True,
        help="Put the fewest nodes back in float when the result does not pass.",
    )  # fmt: skip
    budget: float | None = option(
        "--budget", type=types.Duration(), help="Longest search.  [default: 10m, and 1m where nothing is required]"
    )
    trials: int | None = option(
        "--trials", type=click.IntRange(min=1), metavar="N", help="Most sets of nodes that a search judges."
    )
    plan: Path | None = option("--plan", type=types.FILE, help="A plan to replay: its nodes stay in float.")
    save_plan: Path | None = option(
        "--save-plan", type=types.Output(".json"), help="Where to write the plan that a search found."
    )

    def goal(self, exclude: tuple[str, ...], *given: str | None) -> "Goal":
        """What these options ask for, with the nodes to ``exclude``, on samples ``given``.

        UsageError for those that would do nothing.
        """
        from toolchain.accuracy.gate import Requirement
        from toolchain.conversion.goal import Goal, default_budget_s

        metric, requirement = self.chosen(*given), None
        if any(limit is not None for limit in (self.max_drop, self.min_sqnr, self.min_cosine)):
            most = None if self.max_drop is None else drop_of(metric, self.max_drop)
            requirement = Requirement(max_drop=most, min_sqnr_db=self.min_sqnr, min_cosine=self.min_cosine)
        if not self.search:
            refuse(("budget", "trials"), "with --no-search")
        replayed = self._replayed()
        return Goal(
            requirement=requirement,
            metric=metric,
            budget_s=(self.budget or default_budget_s(requirement)) if self.search else 0.0,
            trials=self.trials,
            exclude=tuple(dict.fromkeys((*exclude, *replayed.exclude))),
            methods=replayed.methods,
        )

    def _replayed(self) -> "Plan":
        from toolchain import regular_file
        from toolchain.conversion.record import Plan

        if self.plan is None:
            return Plan(exclude=())
        try:
            return Plan.from_json(regular_file.read_bytes(self.plan))
        except FileNotFoundError as error:
            raise BadUsage(f"There is no plan {self.plan}.", "Make one with --save-plan.") from error

    def keep(self, plan: "Plan | None", goal: "Goal") -> None:
        """Write the plan that a search found, or that nothing more than ``goal`` says was needed, if it is wanted."""
        from exporters.atomic_file import write_text
        from toolchain.conversion.record import Plan

        if self.save_plan is not None:
            write_text(self.save_plan, (plan or Plan(exclude=goal.exclude, methods=goal.methods)).to_json())


def folders(function: Command) -> Command:
    return group("folders", Folders)(reading(function))


training = group("training", TrainingChoices)
processes = group("processes", Processes)
measuring = group("measuring", Measuring)
calibration = group("calibration", CalibrationChoices)
gate = group("gate", Gate)


@dataclass(frozen=True, kw_only=True)
class Where:
    """Who does the work."""

    ray: str | None = option(
        "--ray", metavar="auto|ADDRESS",
        help="Calibrate and search on a Ray cluster: the one at HOST:PORT; auto is RAY_ADDRESS's, or this machine.",
    )  # fmt: skip

    def workers(self) -> "AbstractContextManager[Workers]":
        """Those for a block."""
        from toolchain.processes import ray_cluster, workers

        return workers.here() if self.ray is None else ray_cluster.joined(self.ray, ahead="toolchain.conversion.trial")


def typed(*names: str) -> list[str]:
    """Of the parameters called ``names``, the options that the user typed."""
    context = click.get_current_context()
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]


def refuse(names: Collection[str], where: str) -> None:
    """UsageError for options that were typed and would do nothing ``where``."""
    if useless := typed(*names):
        raise click.UsageError(f"{', '.join(useless)} would do nothing {where}.")
