"""Training a recipe: epochs, validation, checkpoints, resuming."""

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from exporters.atomic_file import write_text
from toolchain import records
from toolchain.accuracy.metrics.metric import Measure, Metric
from toolchain.artifacts_folder import HISTORY
from toolchain.datasets.dataset import Dataset
from toolchain.errors import BadUsage
from toolchain.progress import Progress
from toolchain.recipes.recipe import Recipe
from toolchain.training import checkpoint, data_parallel, evaluation, schedule
from toolchain.training.batches import BatchPath
from toolchain.training.fitness import require_fit
from toolchain.training.objective import Objective
from toolchain.training.options import Parallel, TrainingOptions
from toolchain.training.record import Epoch, History, of_former
from toolchain.training.trainer import Trainer, fresh_model
from toolchain.training.world import ALONE, World

_OPTIONS = {"parallel": "--accumulate, --sync-batchnorm, --fsdp or --reduce"}
"""What a field of the options is called where it is not said as it is."""
_REPORT_EVERY_S = 0.25


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a run came to. ``epochs`` holds all of them, those before a resume too."""

    checkpoint: Path
    epochs: tuple[Epoch, ...]
    measure: Measure
    best: Epoch
    switched_on: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)


def train(
    recipe: Recipe,
    data: Dataset,
    options: TrainingOptions,
    folder: Path,
    *,
    made_from: str = "",
    resume: bool | None = None,
    progress: Progress,
    world: World = ALONE,
) -> TrainingResult:
    """Train and leave ``checkpoint.pt``, ``resume.pt`` and ``training.json`` in ``folder``.

    Each file is replaced after every epoch, so a run killed at any moment resumes from its last whole epoch, to the
    same weights as an unbroken run. ``made_from`` is a digest of what the options do not say (data, code): by default
    a state with the same options and digest is resumed and any other is not; with ``resume`` true another one raises
    BadUsage, but for more epochs; with false none is resumed. More epochs continue a constant learning rate as if they
    had been asked for at first; any other has a schedule anew over those that are left, which is said.

    In a ``world`` of several processes all call it; the leader alone reads and writes files.
    """
    path = BatchPath(recipe, data, options, world)
    metric = recipe.judged_by()
    reached = require_fit(fresh_model(recipe, options), path, Objective(recipe, data, options.device), metric)
    trainer = Trainer(
        recipe, data, options, total_steps=options.epochs * path.order.steps_per_epoch(), progress=progress,
        world=world,
        reaches_all=all(world.gathered(reached)),
    )  # fmt: skip
    done = History(options=options.as_json(), epochs=(), measure=metric.measure, processes=world.size)
    if world.size > 1:
        progress.note(f"{world.size} processes train together, {options.batch_size} samples a step in all.")
    file = folder / checkpoint.RESUME
    state = world.told(checkpoint.load(file) if world.leads and resume is not False and file.exists() else None)
    if state is not None:
        done = _restored(done, trainer, path, state, file, made_from, strict=bool(resume))
        data.bad.add(done.skipped)
        if done.epochs:
            progress.note(f"Resuming after epoch {len(done.epochs)} of {options.epochs}.")
        if done.restarted_after:
            progress.note(
                f"The learning rate's schedule was over {done.restarted_after} epochs: a new one began after them."
            )
    for number in range(len(done.epochs) + 1, options.epochs + 1):
        if _is_over(done, recipe.patience):
            progress.note(f"Ended after epoch {number - 1}: no better {metric.title} since epoch {done.best.number}.")
            break
        epoch = _run_epoch(trainer, path, metric, number, progress)
        if recipe.schedule is not None and number == 1 and options.epochs > 2 and trainer.has_fallen:
            progress.warn(
                "The recipe's schedule has used up the learning rate after 1 epoch: it is stepped after every step, "
                f"{path.order.steps_per_epoch():,} times an epoch."
            )
        for skipped in world.gathered(data.bad.found):
            data.bad.add(skipped)
        done = replace(done, epochs=(*done.epochs, epoch), skipped=data.bad.found)
        state = trainer.state()
        if world.leads:
            _keep(state, done, folder, made_from)
    return TrainingResult(
        checkpoint=folder / checkpoint.BEST,
        epochs=done.epochs,
        measure=done.measure,
        best=done.best,
        switched_on=trainer.switched_on(),
    )


def _is_over(done: History, patience: int | None) -> bool:
    return bool(patience and done.epochs) and len(done.epochs) - done.best.number >= (patience or 0)


def _run_epoch(trainer: Trainer, path: BatchPath, metric: Metric, number: int, progress: Progress) -> Epoch:
    world = path.world
    if world.size > 1:  # what a model draws itself, as dropout does, differs between processes
        torch.manual_seed(path.order.own_seed(number))
    started = reported = time.perf_counter()
    losses: list[torch.Tensor] = []
    right: list[torch.Tensor] = []
    shown = seen = 0
    steps = path.order.steps_per_epoch()
    with progress.bar(f"epoch {number}/{trainer.options.epochs}", steps) as bar:
        for batch in path.batches(number):
            if (stepped := trainer.step(batch)) is None:
                continue
            loss, hits = stepped
            losses.append(loss)
            seen += batch.piece.count
            if hits is not None:
                right.append(hits)
            now = time.perf_counter()
            # asking for a value waits for the device, so it is asked a few times a second, not every step
            if now - reported > _REPORT_EVERY_S or len(losses) == steps:
                recent = slice(shown, None)
                figures = {"loss": f"{torch.stack(losses[recent]).mean().item() * world.size:.3f}"}
                if right:
                    share = torch.stack(right[recent]).sum().item() * world.size
                    share /= len(right[recent]) * batch.piece.count
                    figures["accuracy"] = f"{share:.1%}"
                bar.advance(len(losses) - shown, **figures, speed=f"{seen / (now - started):,.0f} samples/s")
                shown, reported = len(losses), now
    values = world.total(torch.stack(losses))
    loss_value = values.mean().item()
    seconds = time.perf_counter() - started
    if math.isnan(loss_value):
        first = int(torch.isnan(values).nonzero()[0]) + 1 if bool(torch.isnan(values).any()) else steps
        raise BadUsage(
            f"The loss became NaN in epoch {number}, at step {first:,} of {steps:,}.",
            "Lower --lr, or use --amp off.",
        )
    data_parallel.same_buffers(trainer.model, world)
    score = evaluation.score_of(
        trainer.model,
        path.rows,
        path.data.validation,
        metric,
        trainer.options.device,
        ALONE if trainer.options.parallel.fsdp else world,  # whose weights are in parts, all must run alike
    )
    return Epoch(
        number=number,
        loss=loss_value,
        train_score=world.total(torch.stack(right).sum()).item() / seen if right else None,
        validation_score=world.told(score),  # GPUs may differ in a last bit, and patience must not
        seconds=seconds,
        samples_per_s=seen / seconds,
    )


def _keep(trained: dict[str, Any], done: History, folder: Path, made_from: str) -> None:
    """Best checkpoint first, resume state last: a kill in between repeats the epoch and loses nothing."""
    latest = done.epochs[-1]
    if done.best is latest:
        weights = {name: value.detach().cpu().contiguous() for name, value in trained["model"].items()}
        checkpoint.save(
            {
                "model": weights, "epoch": latest.number,
                "metric": done.measure.name, "validation_score": latest.validation_score,
            },
            folder / checkpoint.BEST,
        )  # fmt: skip
    write_text(folder / HISTORY, done.to_json())
    state = {**asdict(done), "epochs": [asdict(epoch) for epoch in done.epochs]}
    checkpoint.save({**state, "made_from": made_from, "trainer": trained}, folder / checkpoint.RESUME)


def _restored(
    asked: History,
    trainer: Trainer,
    path: BatchPath,
    content: dict[str, Any],
    file: Path,
    made_from: str,
    *,
    strict: bool,
) -> History:
    """The training so far, with ``trainer`` as it was after it; ``asked`` when ``content`` is of another training."""
    state: dict[str, Any] = {**content, "epochs": of_former(content["epochs"])}
    options = {"parallel": asdict(Parallel()), **state.get("options", {})}  # which an earlier version had not
    differing = [name for name, value in asked.options.items() if options.get(name) != value]
    if state.get("made_from") != made_from:
        differing.append("data set or code")
    was = records.made(History, {"options": options, **state})
    is_longer = differing == ["epochs"] and options.get("epochs", 0) < asked.options["epochs"]
    if not strict and (differing or was.restarted_after):
        return asked  # it would come to other weights than an unbroken run
    if differing and not is_longer:
        fewer = "" if differing != ["epochs"] else f": {options.get('epochs')} are asked for, or done"
        raise BadUsage(
            f"{file} was made with another {', '.join(_OPTIONS.get(name, name) for name in differing)}{fewer}.",
            "Use the same options, or more epochs, or start without --resume.",
        )
    restarted = was.restarted_after
    if is_longer and was.epochs and schedule.changes(trainer.recipe):
        restarted = len(was.epochs)
    if restarted:
        trainer.reschedule((asked.options["epochs"] - restarted) * path.order.steps_per_epoch())
    trainer.restore(state["trainer"], with_schedule=restarted == was.restarted_after)
    return replace(asked, epochs=was.epochs, restarted_after=restarted, skipped=was.skipped)
