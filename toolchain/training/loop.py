"""Training a recipe: epochs, validation, checkpoints, resuming."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from exporters.atomic_file import write_text
from toolchain.artifacts_folder import HISTORY
from toolchain.datasets.dataset import Dataset, Split
from toolchain.errors import BadUsage
from toolchain.progress import Progress
from toolchain.recipes.recipe import Recipe
from toolchain.training import checkpoint
from toolchain.training.batches import BatchPath
from toolchain.training.fitness import require_fit
from toolchain.training.options import TrainingOptions
from toolchain.training.record import Epoch, History, best
from toolchain.training.trainer import Trainer

_EVALUATION_BATCH = 500
_REPORT_EVERY_S = 0.25


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a run came to. ``epochs`` holds all of them, those before a resume too."""

    checkpoint: Path
    epochs: tuple[Epoch, ...]
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
) -> TrainingResult:
    """Train and leave ``checkpoint.pt``, ``resume.pt`` and ``training.json`` in ``folder``.

    Each file is replaced after every epoch, so a run killed at any moment resumes from its last whole epoch, to the
    same weights as an unbroken run. ``made_from`` is a digest of what the options do not say (data, code): by default
    a state with the same options and digest is resumed and any other is not; with ``resume`` true another one raises
    BadUsage; with false none is resumed.
    """
    path = BatchPath(data, recipe.augment, options, recipe.cast_inputs)
    total_steps = options.epochs * path.steps_per_epoch()
    trainer = Trainer(recipe, options, total_steps=total_steps, progress=progress)
    require_fit(trainer.model, data, options.device)
    epochs: list[Epoch] = []
    if resume is not False and (folder / checkpoint.RESUME).exists():
        epochs = _restore(trainer, folder / checkpoint.RESUME, made_from, strict=bool(resume))
        if epochs:
            progress.note(f"Resuming after epoch {len(epochs)} of {options.epochs}.")
    for number in range(len(epochs) + 1, options.epochs + 1):
        epochs.append(_run_epoch(trainer, path, number, progress))
        _keep(trainer, epochs, folder, made_from)
    return TrainingResult(
        checkpoint=folder / checkpoint.BEST,
        epochs=tuple(epochs),
        best=best(epochs),
        switched_on=trainer.switched_on(),
    )


def accuracy_of(module: torch.nn.Module, data: Dataset, split: Split, device: str) -> float:
    """The share of right answers of ``module`` on ``split``, in fp32."""
    module.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(split), _EVALUATION_BATCH):
            rows = slice(start, start + _EVALUATION_BATCH)
            inputs = data.scale(torch.from_numpy(split.inputs[rows]).to(device))
            answers = module(inputs).argmax(1).cpu()
            right += int((answers == torch.from_numpy(split.labels[rows])).sum())
    return right / len(split)


def _run_epoch(trainer: Trainer, path: BatchPath, number: int, progress: Progress) -> Epoch:
    started = reported = time.perf_counter()
    losses: list[torch.Tensor] = []
    right: list[torch.Tensor] = []
    shown = 0
    size = trainer.options.batch_size
    steps = path.steps_per_epoch()
    with progress.bar(f"epoch {number}/{trainer.options.epochs}", steps) as bar:
        for batch in path.batches(number):
            loss, hits = trainer.step(batch)
            losses.append(loss)
            right.append(hits)
            now = time.perf_counter()
            # asking for a value waits for the device, so it is asked a few times a second, not every step
            if now - reported > _REPORT_EVERY_S or len(losses) == steps:
                recent = slice(shown, None)
                seen = len(losses[recent]) * len(batch[1])
                bar.advance(
                    len(losses) - shown,
                    loss=f"{torch.stack(losses[recent]).mean().item():.3f}",
                    accuracy=f"{torch.stack(right[recent]).sum().item() / seen:.1%}",
                    speed=f"{len(losses) * len(batch[1]) / (now - started):,.0f} samples/s",
                )
                shown, reported = len(losses), now
    loss_value = torch.stack(losses).mean().item()
    seconds = time.perf_counter() - started
    samples = min(steps * size, len(path.data.train))
    if not loss_value == loss_value:
        raise BadUsage(f"The loss became NaN in epoch {number}.", "Lower --lr, or use --amp off.")
    return Epoch(
        number=number,
        loss=loss_value,
        train_accuracy=torch.stack(right).sum().item() / samples,
        validation_accuracy=accuracy_of(trainer.model, path.data, path.data.validation, trainer.options.device),
        seconds=seconds,
        samples_per_s=samples / seconds,
    )


def _keep(trainer: Trainer, epochs: list[Epoch], folder: Path, made_from: str) -> None:
    """Best checkpoint first, resume state last: a kill in between repeats the epoch and loses nothing."""
    latest = epochs[-1]
    if best(epochs) is latest:
        weights = {name: value.detach().cpu().contiguous() for name, value in trainer.model.state_dict().items()}
        checkpoint.save(
            {"model": weights, "epoch": latest.number, "validation_accuracy": latest.validation_accuracy},
            folder / checkpoint.BEST,
        )
    history = History(options=trainer.options.as_json(), epochs=tuple(epochs))
    write_text(folder / HISTORY, history.to_json())
    state = {**asdict(history), "epochs": [asdict(epoch) for epoch in epochs]}
    checkpoint.save({**state, "made_from": made_from, "trainer": trainer.state()}, folder / checkpoint.RESUME)


def _restore(trainer: Trainer, path: Path, made_from: str, *, strict: bool) -> list[Epoch]:
    """The epochs done so far, with ``trainer`` as it was after them; none when the state is of another training."""
    state: dict[str, Any] = checkpoint.load(path)
    asked = trainer.options.as_json()
    differing = [name for name, value in asked.items() if state.get("options", {}).get(name) != value]
    if state.get("made_from") != made_from:
        differing.append("data set or code")
    if differing and not strict:
        return []
    if differing:
        raise BadUsage(
            f"{path} was made with another {', '.join(differing)}.",
            "Use the same options, or start without --resume.",
        )
    trainer.restore(state["trainer"])
    return [Epoch(**row) for row in state["epochs"]]
