"""One training step, with every switch on or off."""

import contextlib
from typing import Any

import torch

from toolchain.datasets.dataset import Dataset
from toolchain.errors import BadUsage
from toolchain.progress import Progress
from toolchain.recipes.calling import Call
from toolchain.recipes.recipe import Recipe, part
from toolchain.training import data_parallel, parameters, schedule, sharded, shared_norm
from toolchain.training.allocator import keep_freed_memory
from toolchain.training.batches import Batch
from toolchain.training.objective import Objective
from toolchain.training.options import TrainingOptions
from toolchain.training.world import ALONE, World

_COMPILE_ERRORS = (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError)


class Trainer:
    """A fresh model of ``recipe`` with its optimizer, schedule and gradient scaler on the device.

    Making one seeds PyTorch's global generator. ``step`` leaves its loss on the device: asking for its value waits. In
    a ``world`` of several processes all make one and take the same steps, each with its own batches; ``reaches_all``
    says that a step changes all weights.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        options: TrainingOptions,
        *,
        total_steps: int,
        progress: Progress,
        world: World = ALONE,
        reaches_all: bool = True,
    ) -> None:
        self.options = options
        self.world = world
        self.recipe = recipe
        self._progress = progress
        switches = options.switches
        self._keeps_memory = switches.reuse_memory and keep_freed_memory()
        self.model = fresh_model(recipe, options)
        if options.parallel.shared_norm and world.size > 1:
            self.model = shared_norm.shared(self.model, options.device)
        if options.parallel.fsdp and world.size > 1:
            sharded.shard(self.model, options.device, world)
        self.objective = Objective(recipe, data, options.device)
        self.optimizer = _optimizer(recipe, self.model, options)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule = schedule.made(recipe, self.optimizer, total_steps)
        self.scaler = torch.amp.GradScaler(options.device, enabled=switches.amp == "fp16")
        self._plain: Any = data_parallel.wrapped(self.model, options.parallel, world, reaches_all=reaches_all)
        self._forward: Any = self._plain
        if switches.compile:
            # batches that a collate pads are of many lengths
            dynamic = None if recipe.collate is not None else False
            self._forward = torch.compile(self._plain, dynamic=dynamic, mode=switches.compile_mode)
        self._call: Call | None = None
        self._weighs = (world.size > 1 or options.parallel.accumulate > 1) and self.objective.weighs
        self._losses: list[torch.Tensor] = []
        self._hits: list[torch.Tensor] = []
        self._weight = torch.zeros(1, device=options.device)

    @property
    def compiled(self) -> bool:
        """Whether steps run through torch.compile; false after it failed."""
        return self._forward is not self._plain

    def switched_on(self) -> tuple[str, ...]:
        """What is in effect, which may be less than what was asked for."""
        lost = {"compile": not self.compiled, "reuse_memory": not self._keeps_memory}
        return tuple(name for name in self.options.switches.on() if not lost.get(name, False))

    def step(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Train on one batch; return the loss and the number of right answers, both scalars on the device.

        The latter is None for what is not one class of several a sample. Of a step in several pieces, here or in other
        processes, it is what the pieces of this process add to the step's loss and right answers, and None before the
        last of them.
        """
        try:
            return self._step(batch)
        except _COMPILE_ERRORS as error:
            if not self.compiled:
                raise
            reason = str(error).strip().splitlines()[0]
            self._progress.warn(f"Training without torch.compile, which failed: {reason}")
            self._forward = self._plain
            return self._step(batch)

    def _step(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        piece = batch.piece
        if piece.begins:
            self.model.train()
            self.optimizer.zero_grad(set_to_none=True)
            self._losses, self._hits, self._weight = [], [], torch.zeros_like(self._weight)
        with data_parallel.explained(), contextlib.nullcontext() if piece.ends else data_parallel.apart(self._forward):
            self._learn(batch)
        if not piece.ends:
            return None
        if self._weighs:
            self._weigh()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        schedule.step(self.schedule)
        loss = self._losses[0] if len(self._losses) == 1 else torch.stack(self._losses).sum()
        return loss, torch.stack(self._hits).sum() if self._hits else None

    def _learn(self, batch: Batch) -> None:
        """Add the gradient of one batch, and keep what it adds to the step's loss."""
        amp, piece = self.options.switches.amp_dtype, batch.piece
        self._call = self._call or Call(self.model, batch.inputs)
        with torch.autocast(self.options.device, dtype=amp, enabled=amp is not None):
            outputs = self._call(self._forward, batch.inputs)
        loss = self.objective(outputs, batch, reduction="sum" if self._weighs else "mean")
        if self._weighs:  # by what counts in the whole step, which is known at its end; a piece may have nothing of it
            loss = loss / piece.count
            self._weight += self.objective.weight_of(batch) / piece.count
        elif not piece.is_all:
            loss = loss * (piece.rows / piece.count)
        # the processes' gradients are averaged, and their sum is wanted
        self.scaler.scale(loss * self.world.size if self.world.size > 1 else loss).backward()  # type: ignore[no-untyped-call]
        self._losses.append(loss.detach())
        if self.recipe.metric == "top1" and (right := _right(outputs, batch.targets)) is not None:
            self._hits.append(right)

    def _weigh(self) -> None:
        """Divide the step's gradients and losses by what counted in it, in all processes."""
        total = self.world.total(self._weight.clone()).clamp_(min=1e-30)
        gradients = [each.grad for each in self.model.parameters() if each.grad is not None]
        torch._foreach_div_(gradients, float(total))
        self._losses = [loss / total.squeeze() for loss in self._losses]

    @property
    def has_fallen(self) -> bool:
        """Whether hardly anything is left of the rates of the beginning."""
        return all(
            rate <= first * 1e-4 for rate, first in zip(self.schedule.get_last_lr(), self._rates, strict=True)
        )  # fmt: skip

    def reschedule(self, total_steps: int) -> None:
        """The schedule anew, over ``total_steps`` from here, with the rates of the beginning."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
            group.pop("initial_lr", None)
        self.schedule = schedule.made(self.recipe, self.optimizer, total_steps)

    def state(self) -> dict[str, Any]:
        """Everything that a step depends on or changes; all processes of a world must call it."""
        return {
            "model": sharded.whole(self.model.state_dict()),
            "optimizer": sharded.whole(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if self.options.device == "cuda" else [],
        }

    def restore(self, state: dict[str, Any], *, with_schedule: bool = True) -> None:
        """Go on as if the run had never stopped; without its schedule at the rates that the present one begins with."""
        begin = [dict(group) for group in self.optimizer.param_groups]
        sharded.load(self.model, self.optimizer, state)
        if with_schedule:
            self.schedule.load_state_dict(state["schedule"])
        else:
            for group, first in zip(self.optimizer.param_groups, begin, strict=True):
                group |= {name: value for name, value in first.items() if name == "lr" or name.endswith("_lr")}
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng_cpu"])
        if state["rng_cuda"]:
            torch.cuda.set_rng_state_all(state["rng_cuda"])


def fresh_model(recipe: Recipe, options: TrainingOptions) -> torch.nn.Module:
    """The untrained model on its device, after seeding PyTorch's global generator."""
    torch.manual_seed(options.seed)
    model = recipe.model().to(options.device)
    if options.switches.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _optimizer(recipe: Recipe, model: torch.nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    given = parameters.of(recipe, model, options.lr)
    with part("optimizer", "It takes parameters, or groups of them, and the learning rate."):
        optimizer = recipe.optimizer(given, options.lr)
    if isinstance(optimizer, torch.optim.LBFGS) or not isinstance(optimizer, torch.optim.Optimizer):
        raise BadUsage(
            f"The recipe's optimizer is a {type(optimizer).__name__}.",
            "Let it be a torch.optim.Optimizer whose step() takes no closure.",
        )
    if options.switches.fused_optimizer:
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = True, False
    return optimizer


def _right(scores: Any, labels: Any) -> torch.Tensor | None:
    if not isinstance(scores, torch.Tensor) or not isinstance(labels, torch.Tensor):
        return None
    if scores.ndim != 2 or scores.shape[1] < 2 or labels.shape != scores.shape[:1]:
        return None
    return (scores.detach().argmax(1) == labels).sum()
