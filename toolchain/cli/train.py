"""``nnx train``."""

from pathlib import Path

import click

from toolchain.cli import options


@click.command("train")
@click.argument("recipe")
@options.data
@options.out_folder
@click.option("--resume", is_flag=True, help="Go on from the last whole epoch, to the same result.")
@click.option("--ablate", is_flag=True, help="Measure what each switch gains over the plain loop instead of training.")
@click.option(
    "--rounds",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    help="Turns of each loop, with --ablate.",
)
@options.training
@options.as_json
def command(
    recipe: str,
    data: Path | None,
    out: Path | None,
    resume: bool,
    ablate: bool,
    rounds: int,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int,
    device: str,
    amp: str,
    compile: bool | None,
    compile_mode: str,
    as_json: bool,
) -> None:
    """Train RECIPE and keep its best checkpoint.

    Leaves checkpoint.pt (best by validation accuracy), resume.pt and training.json in artifacts/RECIPE, replaced after
    every epoch. With --ablate it trains every loop for --epochs (1 by default), in turns, and leaves ablation.json and
    ablation.md instead.

    \b
    Example:
      nnx train digits --epochs 10
      nnx train cifar10 --data ~/cifar10 --ablate
    """
    import json

    from toolchain import pipeline
    from toolchain.ablation import measure as ablation
    from toolchain.console import LiveProgress, print_result, print_table
    from toolchain.inputs import sources
    from toolchain.training import options as training_options

    progress = LiveProgress()
    if ablate and resume:
        raise click.UsageError("--ablate starts anew: leave --resume out.")
    sources.recipe_named(recipe)  # before a folder is made for it
    folder = options.artifacts_folder(recipe, out)
    road = pipeline.Pipeline(recipe, folder, data_folder=data, force=not resume, progress=progress)
    training = training_options.resolve(
        road.recipe, progress=progress, epochs=epochs or (1 if ablate else None), batch_size=batch_size, lr=lr,
        seed=seed, device=device, amp=amp, compile=compile, compile_mode=compile_mode,
    )  # fmt: skip
    if ablate:
        found = ablation.measure(recipe, road.data, training, folder, rounds=rounds, progress=progress)
        if as_json:
            print_result(found.to_json())
        else:
            print_table(
                f"{road.recipe.name}: each switch alone, and all",
                list(ablation.HEADINGS),
                ablation.cells(found),
            )
        ablation.require_plain(found)
        return
    trained = road.train(training, resume=resume or None)
    if as_json:
        print_result(json.dumps(trained.facts()))
    else:
        print_result(
            f"{folder / 'checkpoint.pt'}: test accuracy {trained.test_accuracy:.2%}, "
            f"validation {trained.validation_accuracy:.2%}, {trained.seconds:.0f} s"
        )
