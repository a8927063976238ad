"""``nnx quantize``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option
from toolchain.cli.outputs import writable

if TYPE_CHECKING:
    from exporters.int8.static import StaticOptions


def _list_targets(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if value == "list":
        from exporters.int8.targets import TARGETS
        from toolchain.console import print_result, print_table

        rows = []
        for each in TARGETS.values():
            weights = f"{each.weight} per {'channel' if each.per_channel else 'tensor'}"
            rows.append(
                [
                    each.target,
                    f"{'symmetric ' if each.symmetric else ''}{each.activation}",
                    f"{weights}{', 7 bits' if each.reduce_range else ''}",
                ]
            )
        print_table("What --target decides", ["target", "activations", "weights"], rows)
        print_result("")
        for each in TARGETS.values():
            print_result(f"{each.target}: {each.reason}.")
        print_result(
            "\nIn float everywhere: Softmax, products of two activations, and a transformer's residual stream."
        )
        context.exit()
    return value


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The kind of integers, and what runs them."""

    int8: bool = option("--int8", is_flag=True, help="To 8-bit integers.")
    int4: bool = option("--int4", is_flag=True, help="To 4-bit weights in blocks; activations stay fp32.")
    mode: str | None = option(
        "--mode", type=click.Choice(["dynamic", "static"]), help="[default: static with --calibration, dynamic without]"
    )
    target: str = option(
        "--target", default="auto", show_default=True, metavar="DEVICE", is_eager=True, callback=_list_targets,
        help="What the result runs on; auto reads this machine's processor, `list` shows the table.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.int8 == self.int4:
            raise click.UsageError("Choose one: add --int8 or --int4.")

    def precision(self, *, calibrated: bool) -> str:
        """int4, int8-dynamic or int8-static."""
        return "int4" if self.int4 else f"int8-{self.mode or ('static' if calibrated else 'dynamic')}"


@dataclass(frozen=True, kw_only=True)
class Making:
    """How it is made."""

    method: Any = option(
        "--method", type=click.Choice(["mse", "minmax", "percentile", "entropy"]), default="mse", show_default=True,
        help="How the ranges of activations are chosen.",
    )  # fmt: skip
    percentile: float | None = option("--percentile", type=float, help="For --method percentile.  [default: 99.99]")
    skip: tuple[Any, ...] = option(
        "--skip", multiple=True,
        type=click.Choice(["attention-form", "stem-fold", "equalization", "gemm-per-tensor", "bias-correction"]),
        help="A step to leave out; may be repeated.",
    )  # fmt: skip
    memory_budget: int = option(
        "--memory-budget", type=types.Size(), default="2GB", show_default=True,
        help="Most that activations may take while calibrating.",
    )  # fmt: skip
    cache: bool = option(
        "--cache/--no-cache", default=True, show_default=True, help="Keep and reuse calibration statistics."
    )
    block_size: str = option(
        "--block-size", type=click.Choice(["16", "32", "64", "128", "256"]), default="32", show_default=True,
        help="For --int4: weights that share a scale.",
    )  # fmt: skip
    exclude: tuple[str, ...] = option(
        "--exclude", multiple=True, metavar="NODE", help="A node to leave in float; may be repeated."
    )

    def __post_init__(self) -> None:
        if self.percentile is not None and self.method != "percentile":
            raise click.UsageError("--percentile goes with --method percentile.")

    def static(self) -> "StaticOptions":
        """What of it concerns static int8."""
        from exporters.calibration.thresholds import DEFAULT_PERCENTILE
        from exporters.int8.static import StaticOptions

        return StaticOptions(
            method=self.method,
            percentile=DEFAULT_PERCENTILE if self.percentile is None else self.percentile,
            skip=frozenset(self.skip),
            memory_budget=self.memory_budget,
        )


@dataclass(frozen=True, kw_only=True)
class Result(options.Stored, options.Where):
    """Who makes it, and what becomes of it."""

    time: bool = option(
        "--time/--no-time", default=True, show_default=True,
        help="Time the result against MODEL here, and find its session settings.",
    )  # fmt: skip
    output: Path | None = option(
        "-o", "--output", type=types.Output(".onnx"),
        help="The new file.  [default: MODEL.int8-MODE.onnx or MODEL.int4.onnx beside MODEL]",
    )  # fmt: skip


@click.command("quantize")
@click.argument("model", type=types.FILE)
@group("wanted", Wanted)
@options.calibration
@group("making", Making)
@options.gate
@group("result", Result)
@options.data
@options.as_json
def command(
    model: Path,
    wanted: Wanted,
    calibration: options.CalibrationChoices,
    making: Making,
    gate: options.Gate,
    result: Result,
    data: Path | None,
    as_json: bool,
) -> None:
    """Quantize MODEL in the format that the target is fast at, compare the result with it, and time both.

    Static int8 fixes the ranges of activations from calibration data and suits convolution nets; dynamic int8 measures
    them at run time and suits nets of large matrix products; int4 makes files of such nets smallest.

    \b
    Example:
      nnx quantize artifacts/digits/model.onnx --int8 --calibration digits --max-drop 1
      nnx quantize model.onnx --int8 --calibration train.npz --eval test.npz --target arm64
      nnx quantize mlp.onnx --int8 --mode dynamic -o mlp.int8.onnx
      nnx quantize regressor.onnx --int8 --calibration data.npz --metric mae --max-drop 0.05
      nnx quantize --target list
    """
    from exporters.model_file import ModelFile
    from toolchain.cli.made import show
    from toolchain.console import LiveProgress
    from toolchain.conversion import fitting, precisions, settings_search, speed_check
    from toolchain.conversion.precisions import Int4, Int8Dynamic, Int8Static, Precision

    name = wanted.precision(calibrated=calibration.calibration is not None)
    if name != "int8-static":
        options.refuse(("method", "percentile", "skip", "memory_budget", "cache"), f"for {name}")
    options.refuse(("mode",) if wanted.int4 else ("block_size",), f"for {name}")
    if name == "int8-static" and calibration.calibration is None:
        raise precisions.no_calibration()
    int8 = precisions.format_for(wanted.target)
    destination = writable(result.output or model.with_name(f"{model.stem}.{name}.onnx"))
    goal, progress = gate.goal(making.exclude, *calibration.named), LiveProgress()
    given = calibration.given(data, goal.metric)
    precision: Precision
    if name == "int4":
        precision = Int4(block_size=int(making.block_size))
    elif name == "int8-dynamic":
        precision = Int8Dynamic(int8=int8)
    else:
        precision = Int8Static(int8=int8, options=making.static(), use_cache=making.cache)
    source = ModelFile(model)
    speed, code = None, ""
    with result.writing():
        with result.workers() as workers:
            made = fitting.convert(
                source, destination, precision, given=given.source(progress), goal=goal, workers=workers,
                progress=progress,
            )  # fmt: skip
        gate.keep(made.plan, goal)
        if result.time and not precisions.runs_here(wanted.target):
            progress.note(f"not timed: {wanted.target} is not what this machine is")
        elif result.time and (judged_on := made.judged_on) is not None:
            made, code = settings_search.tuned(made, progress=progress)
            speed = speed_check.compare(source, made.file, judged_on, precision=name, progress=progress)
    show(made, as_json, speed, code)
