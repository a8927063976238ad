"""``nnx quantize``."""

from pathlib import Path
from typing import Any

import click

from toolchain.cli import options


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


@click.command("quantize")
@click.argument("model", type=options.FILE)
@click.option("--int8", is_flag=True, help="To 8-bit integers.")
@click.option("--int4", is_flag=True, help="To 4-bit weights in blocks; activations stay fp32.")
@click.option(
    "--mode",
    type=click.Choice(["dynamic", "static"]),
    help="[default: static with --calibration, dynamic without]",
)
@click.option(
    "--target", default="auto", show_default=True, metavar="DEVICE", is_eager=True, callback=_list_targets,
    help="What the result runs on; auto reads this machine's processor, `list` shows the table.",
)  # fmt: skip
@options.calibration
@click.option(
    "--method", type=click.Choice(["mse", "minmax", "percentile", "entropy"]), default="mse", show_default=True,
    help="How the ranges of activations are chosen.",
)  # fmt: skip
@click.option("--percentile", type=float, help="For --method percentile.  [default: 99.99]")
@click.option(
    "--skip", multiple=True,
    type=click.Choice(["attention-form", "stem-fold", "equalization", "gemm-per-tensor", "bias-correction"]),
    help="A step to leave out; may be repeated.",
)  # fmt: skip
@click.option(
    "--memory-budget", type=options.Size(), default="2GB", show_default=True,
    help="Most that activations may take while calibrating.",
)  # fmt: skip
@click.option("--cache/--no-cache", default=True, show_default=True, help="Keep and reuse calibration statistics.")
@click.option(
    "--block-size", type=click.Choice(["16", "32", "64", "128", "256"]), default="32", show_default=True,
    help="For --int4: weights that share a scale.",
)  # fmt: skip
@click.option("--exclude", multiple=True, metavar="NODE", help="A node to leave in float; may be repeated.")
@options.gate
@click.option(
    "--time/--no-time",
    default=True,
    show_default=True,
    help="Time the result against MODEL here, and find its session settings.",
)
@click.option(
    "-o",
    "--output",
    type=options.FILE,
    help="The new file.  [default: MODEL.int8-MODE.onnx or MODEL.int4.onnx beside MODEL]",
)
@options.data
@options.as_json
def command(
    model: Path,
    int8: bool,
    int4: bool,
    mode: str | None,
    target: str,
    calibration: str | None,
    samples: int,
    evaluation: str | None,
    method: Any,
    percentile: float | None,
    skip: tuple[Any, ...],
    memory_budget: int,
    cache: bool,
    block_size: str,
    exclude: tuple[str, ...],
    max_drop: float | None,
    min_sqnr: float | None,
    min_cosine: float | None,
    search: bool,
    budget: float,
    plan: Path | None,
    save_plan: Path | None,
    time: bool,
    output: Path | None,
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
      nnx quantize --target list
    """
    from exporters.calibration.thresholds import DEFAULT_PERCENTILE
    from exporters.int8.static import StaticOptions
    from exporters.model_file import ModelFile
    from toolchain.cli.made import show
    from toolchain.console import LiveProgress
    from toolchain.conversion import fitting, precisions, settings_search, speed_check
    from toolchain.conversion.given import Data
    from toolchain.conversion.precisions import Int4, Int8Dynamic, Int8Static, Precision

    if int8 == int4:
        raise click.UsageError("Choose one: add --int8 or --int4.")
    if percentile is not None and method != "percentile":
        raise click.UsageError("--percentile goes with --method percentile.")
    mode = "int4" if int4 else f"int8-{mode or ('static' if calibration else 'dynamic')}"
    context = click.get_current_context()
    if mode != "int8-static":
        options.refuse(context, ("method", "percentile", "skip", "memory_budget", "cache"), f"for {mode}")
    options.refuse(context, ("mode",) if int4 else ("block_size",), f"for {mode}")
    int8_format = precisions.format_for(target)
    destination = options.writable(output or model.with_name(f"{model.stem}.{mode}.onnx"))
    progress = LiveProgress()
    given = Data(calibration=calibration, evaluation=evaluation, count=samples, folder=data)
    goal = options.goal(max_drop, min_sqnr, min_cosine, search, budget, plan, save_plan, exclude)
    precision: Precision
    if int4:
        precision = Int4(block_size=int(block_size))
    elif mode == "int8-dynamic":
        precision = Int8Dynamic(int8=int8_format)
    else:
        static = StaticOptions(
            method=method,
            percentile=DEFAULT_PERCENTILE if percentile is None else percentile,
            skip=frozenset(skip),
            memory_budget=memory_budget,
        )
        precision = Int8Static(int8=int8_format, options=static, use_cache=cache)
    source = ModelFile(model)
    made = fitting.convert(source, destination, precision, given=given.source(progress), goal=goal, progress=progress)
    options.keep_plan(made.plan, goal, save_plan)
    speed, code = None, ""
    if time and not precisions.runs_here(target):
        progress.note(f"not timed: {target} is not what this machine is")
    elif time and (judged_on := made.judged_on) is not None:
        made, code = settings_search.tuned(made, progress=progress)
        speed = speed_check.compare(source, made.file, judged_on, precision=mode, progress=progress)
    show(made, as_json, speed, code)
