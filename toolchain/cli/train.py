"""``nnx train``."""

import click

from toolchain.cli import options


@click.command("train")
@click.argument("recipe")
@options.folders
@click.option(
    "--resume", is_flag=True, help="Go on from the last whole epoch, to the same result, or for more --epochs."
)
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
    folders: options.Folders,
    resume: bool,
    ablate: bool,
    rounds: int,
    training: options.TrainingChoices,
    as_json: bool,
) -> None:
    """Train RECIPE and keep its best checkpoint.

    Leaves checkpoint.pt (the best by the recipe's metric on the validation split), resume.pt and training.json in
    artifacts/RECIPE, replaced after every epoch. With --ablate it trains every loop for --epochs (1 by default), in
    turns, and leaves ablation.json and ablation.md instead.

    \b
    Example:
      nnx train digits --epochs 10
      nnx train cifar10 --data ~/cifar10 --ablate
    """
    import json
    from dataclasses import asdict, replace

    from toolchain import folder_lock, pipeline
    from toolchain.ablation import measure as ablation
    from toolchain.console import LiveProgress, print_result, print_table
    from toolchain.training.batches import BatchPath
    from toolchain.training.record import told

    progress = LiveProgress()
    if ablate and resume:
        raise click.UsageError("--ablate starts anew: leave --resume out.")
    context, folder = click.get_current_context(), folders.artifacts(recipe)
    context.with_resource(folder_lock.held(folder, context.obj or ()))
    road = pipeline.Pipeline(recipe, folder, data_folder=folders.data, force=not resume, progress=progress)
    if ablate and training.epochs is None:
        training = replace(training, epochs=1)
    chosen = training.resolved(road.recipe, progress)
    if ablate:
        found = ablation.measure(
            recipe,
            road.data,
            chosen,
            folder,
            rounds=rounds,
            progress=progress,
            steps_per_epoch=BatchPath(road.recipe, road.data, chosen).steps_per_epoch(),
            measure=road.recipe.judged_by().measure,
            data_folder=folders.data,
        )
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
    trained = road.train(chosen, resume=resume or None)
    if as_json:
        print_result(json.dumps(asdict(trained)))
    else:
        print_result(
            f"{folder / 'checkpoint.pt'}: test {trained.test_text}, "
            f"validation {told(trained.measure, trained.validation_score)}, {trained.seconds:.0f} s"
        )
