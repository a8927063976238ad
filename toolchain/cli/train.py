"""``nnx train``."""

from typing import TYPE_CHECKING

import click

from toolchain.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolchain.training.world import World


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
@options.processes
@options.as_json
def command(
    recipe: str,
    folders: options.Folders,
    resume: bool,
    ablate: bool,
    rounds: int,
    training: options.TrainingChoices,
    processes: options.Processes,
    as_json: bool,
) -> None:
    """Train RECIPE and keep its best checkpoint.

    Leaves checkpoint.pt (the best by the recipe's metric on the validation split), resume.pt and training.json in
    artifacts/RECIPE, replaced after every epoch. With --ablate it trains every loop for --epochs (1 by default), in
    turns, and leaves ablation.json and ablation.md instead.

    With --nproc, or started by torchrun, several processes do each step together: --batch-size is that of all, and
    they come to what one process would, within rounding.

    \b
    Example:
      nnx train digits --epochs 10
      nnx train digits --nproc 2 --sync-batchnorm
      torchrun --nproc-per-node 2 -m toolchain train digits
      nnx train cifar10 --data ~/cifar10 --ablate
    """
    import json
    from dataclasses import asdict, replace

    from toolchain import folder_lock, pipeline
    from toolchain.ablation import measure as ablation
    from toolchain.console import LiveProgress, print_result, print_table
    from toolchain.training import world as worlds
    from toolchain.training.options import resolve_device
    from toolchain.training.order import Order
    from toolchain.training.record import told

    if ablate and resume:
        raise click.UsageError("--ablate starts anew: leave --resume out.")
    if ablate:
        options.refuse(("max_restarts", "hang_timeout", "accumulate", "fsdp"), "with --ablate")
    if processes.nproc is None:
        options.refuse(("max_restarts",), "without --nproc")
    if ablate and worlds.started_by_torchrun():
        raise click.UsageError("--ablate starts processes of its own: run it without torchrun, with --nproc.")
    if worlds.started_by_torchrun():
        options.refuse(("nproc", "max_restarts"), "where torchrun starts the processes")
    elif processes.nproc is not None and not ablate:
        from toolchain.training.launching import launch

        arguments = _without(("--nproc", "--max-restarts"), click.get_current_context().obj[1:])
        resolve_device(training.device)  # what is not there is said once
        code = launch(arguments, processes=processes.nproc, max_restarts=processes.max_restarts)
        raise click.exceptions.Exit(code)
    with worlds.joined(resolve_device(training.device), timeout_s=processes.hang_timeout) as world:
        if not world.leads:
            _train_along(world, recipe, folders, training, processes)
            return
        goes_on = resume or world.is_a_restart  # which takes up its own training alone, whatever else lies there
        progress = LiveProgress()
        context, folder = click.get_current_context(), folders.artifacts(recipe)
        context.with_resource(folder_lock.held(folder, context.obj or ()))
        road = pipeline.Pipeline(recipe, folder, data_folder=folders.data, force=not goes_on, progress=progress)
        if ablate and training.epochs is None:
            training = replace(training, epochs=1)
        chosen = training.resolved(road.recipe, progress, processes.parallel())
        if ablate:
            found = ablation.measure(
                recipe,
                road.data,
                chosen,
                folder,
                rounds=rounds,
                progress=progress,
                steps_per_epoch=Order(road.recipe, road.data, chosen).steps_per_epoch(),
                measure=road.recipe.judged_by().measure,
                data_folder=folders.data,
                processes=processes.nproc or 1,
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
        trained = road.train(chosen, resume=resume or None, world=world)
        if as_json:
            print_result(json.dumps(asdict(trained)))
        else:
            print_result(
                f"{folder / 'checkpoint.pt'}: test {trained.test_text}, "
                f"validation {told(trained.measure, trained.validation_score)}, {trained.seconds:.0f} s"
            )


def _without(names: "Sequence[str]", arguments: "Sequence[str]") -> list[str]:
    """``arguments`` but those options, each of which has a value."""
    kept, given = list[str](), iter(arguments)
    for each in given:
        if each in names:
            next(given, None)
        elif not each.startswith(tuple(f"{name}=" for name in names)):
            kept.append(each)
    return kept


def _train_along(
    world: "World",
    recipe: str,
    folders: options.Folders,
    training: options.TrainingChoices,
    processes: options.Processes,
) -> None:
    import tempfile
    from pathlib import Path

    from toolchain import pipeline
    from toolchain.progress import SILENT

    with tempfile.TemporaryDirectory() as own:
        road = pipeline.Pipeline(recipe, Path(own), data_folder=folders.data)
        road.train_along(training.resolved(road.recipe, SILENT, processes.parallel()), world)
