"""``nnx run``."""

from pathlib import Path

import click

from toolchain.cli import options


@click.command("run")
@click.argument("recipe")
@options.data
@options.out_folder
@click.option("--force", is_flag=True, help="Redo every step, whatever has not changed.")
@options.opset
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Calibration samples for static int8.",
)
@click.option(
    "--max-drop",
    type=options.Points(),
    help="Points of accuracy that a conversion may lose; what must stay in float for it is searched.",
)
@options.training
@options.measuring
@options.as_json
def command(
    recipe: str,
    data: Path | None,
    out: Path | None,
    force: bool,
    opset: int,
    samples: int,
    max_drop: float | None,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int,
    device: str,
    amp: str,
    compile: bool | None,
    compile_mode: str,
    providers: tuple[str, ...],
    batches: tuple[int, ...],
    threads: tuple[int, ...] | None,
    precision: float,
    max_time: float,
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
    from toolchain.accuracy.gate import Requirement
    from toolchain.bench import judging
    from toolchain.bench.effort import Effort
    from toolchain.bench.sweep import Sweep
    from toolchain.cli.bench import show
    from toolchain.console import LiveProgress, print_result
    from toolchain.inputs import sources
    from toolchain.training import options as training_options

    progress = LiveProgress()
    settings = Sweep(providers=providers, batches=batches, threads=threads or ()).settings()
    sources.recipe_named(recipe)  # before a folder is made for it
    road = pipeline.Pipeline(
        recipe,
        options.artifacts_folder(recipe, out),
        data_folder=data,
        force=force,
        command=click.get_current_context().obj,
        progress=progress,
    )
    training = training_options.resolve(
        road.recipe, progress=progress, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, device=device, amp=amp,
        compile=compile, compile_mode=compile_mode,
    )  # fmt: skip
    measured = pipeline.run(
        road,
        training,
        settings=settings,
        opset=opset,
        calibration_samples=samples,
        requirement=None if max_drop is None else Requirement(max_drop=max_drop),
        effort=Effort(precision=precision, max_time_s=max_time),
    )
    if as_json:
        print_result(measured.to_json())
    else:
        show(measured, title=f"{road.recipe.name}, test split")
    progress.note(f"Everything lies in {road.folder}; start with {road.folder / 'report.md'}")
    judging.require_sound(measured)
