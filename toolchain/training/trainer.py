"""One training step, with every switch on or off."""

from typing import Any

import torch
import torch.nn.functional as F

from toolchain.progress import Progress
from toolchain.recipes.recipe import Recipe
from toolchain.training.allocator import keep_freed_memory
from toolchain.training.batches import Batch
from toolchain.training.options import TrainingOptions

_COMPILE_ERRORS = (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError)
_SHORTEST_CYCLE = 8
"""OneCycleLR divides by the length of its phases, which must not come out as 0 steps."""


class Trainer:
    """A fresh model of ``recipe`` with its optimizer, schedule and gradient scaler on the device.

    Making one seeds PyTorch's global generator. ``step`` leaves its loss on the device: asking for its value waits.
    """

    def __init__(self, recipe: Recipe, options: TrainingOptions, *, total_steps: int, progress: Progress) -> None:
        self.options = options
        self._recipe = recipe
        self._progress = progress
        switches = options.switches
        self._keeps_memory = switches.reuse_memory and keep_freed_memory()
        torch.manual_seed(options.seed)
        self.model = recipe.model().to(options.device)
        if switches.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = recipe.optimizer(self.model.parameters(), options.lr)
        if switches.fused_optimizer:
            for group in self.optimizer.param_groups:
                group["fused"], group["foreach"] = True, False
        self.schedule = _schedule(recipe, self.optimizer, options.lr, total_steps)
        self.scaler = torch.amp.GradScaler(options.device, enabled=switches.amp == "fp16")
        self._forward: Any = self.model
        if switches.compile:
            self._forward = torch.compile(self.model, dynamic=False, mode=switches.compile_mode)

    @property
    def compiled(self) -> bool:
        """Whether steps run through torch.compile; false after it failed."""
        return self._forward is not self.model

    def switched_on(self) -> tuple[str, ...]:
        """What is in effect, which may be less than what was asked for."""
        lost = {"compile": not self.compiled, "reuse_memory": not self._keeps_memory}
        return tuple(name for name in self.options.switches.on() if not lost.get(name, False))

    def step(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on one batch; return the loss and the number of right answers, both scalars on the device."""
        try:
            return self._step(batch)
        except _COMPILE_ERRORS as error:
            if not self.compiled:
                raise
            reason = str(error).strip().splitlines()[0]
            self._progress.warn(f"Training without torch.compile, which failed: {reason}")
            self._forward = self.model
            return self._step(batch)

    def _step(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, labels = batch
        amp = self.options.switches.amp_dtype
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.options.device, dtype=amp, enabled=amp is not None):
            scores = self._forward(inputs)
        loss = F.cross_entropy(scores.float(), labels, label_smoothing=self._recipe.label_smoothing)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return loss.detach(), (scores.detach().argmax(1) == labels).sum()

    def state(self) -> dict[str, Any]:
        """Everything that a step depends on or changes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if self.options.device == "cuda" else [],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as if the run had never stopped."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng_cpu"])
        if state["rng_cuda"]:
            torch.cuda.set_rng_state_all(state["rng_cuda"])


def _schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, lr: float, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if not recipe.one_cycle or total_steps < _SHORTEST_CYCLE:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=total_steps + 1, pct_start=0.25, cycle_momentum=False
    )
