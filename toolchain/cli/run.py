"""``nnx run``."""

import click

from toolchain.cli import options


@click.command("run")
@click.argument("recipe")
@options.folders
@click.option("--force", is_flag=True, help="Redo every step, whatever has not changed.")
@options.opset
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Calibration samples for static int8.",
)
@options.training
@options.measuring
@options.as_json
def command(
    recipe: str,
    folders: options.Folders,
    force: bool,
    opset: int,
    samples: int,
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
    from toolchain import pipeline
    from toolchain.bench import judging
    from toolchain.bench.sweep import Sweep
    from toolchain.cli.bench import show
    from toolchain.console import LiveProgress, print_result

    progress = LiveProgress()
    settings = Sweep(
        providers=measuring.providers, batches=measuring.batches, threads=measuring.threads or ()
    ).settings()
    road = pipeline.Pipeline(
        recipe,
        folders.artifacts(recipe),
        data_folder=folders.data,
        force=force,
        command=click.get_current_context().obj,
        progress=progress,
    )
    measured = pipeline.run(
        road,
        training.resolved(road.recipe, progress),
        settings=settings,
        opset=opset,
        calibration_samples=samples,
        effort=measuring.effort(),
    )
    if as_json:
        print_result(measured.to_json())
    else:
        show(measured, title=f"{road.recipe.name}, test split")
    progress.note(f"Everything lies in {road.folder}; start with {road.folder / 'report.md'}")
    judging.require_sound(measured)
