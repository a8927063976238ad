"""``nnx run``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option

if TYPE_CHECKING:
    from toolchain.accuracy.gate import Requirement
    from toolchain.accuracy.metrics.metric import Metric


@dataclass(frozen=True, kw_only=True)
class Converting:
    """How the other precisions are made and judged."""

    samples: int = option(
        "--samples", type=click.IntRange(min=1), default=256, show_default=True,
        help="Calibration samples for static int8 and fp16.",
    )  # fmt: skip
    max_drop: float | None = option(
        "--max-drop", type=types.Drop(),
        help="What a conversion may lose: points of accuracy, or in the unit of the recipe's metric; what must stay in "
        "float for it is searched.",
    )  # fmt: skip

    def requirement(self, metric: "Metric") -> "Requirement | None":
        """What they must keep of ``metric``, None where nothing was asked for."""
        from toolchain.accuracy.gate import Requirement

        return None if self.max_drop is None else Requirement(max_drop=options.drop_of(metric, self.max_drop))


@click.command("run")
@click.argument("recipe")
@options.folders
@click.option("--force", is_flag=True, help="Redo every step, whatever has not changed.")
@options.opset
@group("converting", Converting)
@options.training
@options.measuring
@options.as_json
def command(
    recipe: str,
    folders: options.Folders,
    force: bool,
    opset: int,
    converting: Converting,
    training: options.TrainingChoices,
    measuring: options.Measuring,
    as_json: bool,
) -> None:
    """Do the whole job for RECIPE: train, export, fp16, int8, bench, report.

    RECIPE is digits, cifar10 or sst2, or your own as file.py:recipe. Everything lies under artifacts/RECIPE afterwards;
    steps whose inputs have not changed are reused, and a run that was stopped goes on from its last whole step.

    \b
    Example:
      nnx run digits
      nnx run cifar10 --data ~/cifar10 --batch 1,8,64
    """
    from toolchain import folder_lock, pipeline
    from toolchain.bench import judging
    from toolchain.bench.sweep import Sweep
    from toolchain.cli.bench import show
    from toolchain.console import LiveProgress, print_result

    progress = LiveProgress()
    settings = Sweep(
        providers=measuring.providers, batches=measuring.batches, threads=measuring.threads or ()
    ).settings()
    context, folder = click.get_current_context(), folders.artifacts(recipe)
    context.with_resource(folder_lock.held(folder, context.obj or ()))
    road = pipeline.Pipeline(
        recipe,
        folder,
        data_folder=folders.data,
        force=force,
        command=context.obj,
        progress=progress,
    )
    measured = pipeline.run(
        road,
        training.resolved(road.recipe, progress),
        settings=settings,
        opset=opset,
        calibration_samples=converting.samples,
        requirement=converting.requirement(road.recipe.judged_by()),
        effort=measuring.effort(),
    )
    if as_json:
        print_result(measured.to_json())
    else:
        show(measured, title=f"{road.recipe.name}, test split")
    progress.note(f"Everything lies in {road.folder}; start with {road.folder / 'report.md'}")
    road.require_all()
    judging.require_sound(measured)
