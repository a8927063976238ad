"""The learning rate over the steps of a training."""

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from toolchain.errors import BadUsage
from toolchain.recipes.recipe import Recipe, part

_SHORTEST_CYCLE = 8
"""OneCycleLR divides by the length of its phases, which must not come out as 0 steps."""
_PER_STEP = "It is stepped after every step: write it over the number of steps that it is given, not over epochs."


def changes(recipe: Recipe) -> bool:
    """Whether the rate depends on how long the training is."""
    return recipe.schedule is not None or recipe.one_cycle


def made(recipe: Recipe, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler:
    """The recipe's schedule over ``total_steps``; raises BadUsage for one that cannot be stepped every step."""
    if recipe.schedule is not None:
        with part("schedule", "It takes the optimizer and the number of steps."):
            own = recipe.schedule(optimizer, total_steps)
        if isinstance(own, ReduceLROnPlateau):
            raise BadUsage(
                "The recipe's schedule is a ReduceLROnPlateau, which waits for a score after each epoch.",
                "Schedules here are stepped after every step: use another, or none and patience.",
            )
        if not isinstance(own, LRScheduler):
            raise BadUsage(
                f"The recipe's schedule makes a {type(own).__name__}.", "Let it make a torch.optim.lr_scheduler."
            )
        return own
    if not recipe.one_cycle or total_steps < _SHORTEST_CYCLE:
        return LambdaLR(optimizer, lambda step: 1.0)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=total_steps + 1, pct_start=0.25, cycle_momentum=False)


def step(schedule: LRScheduler) -> None:
    """The next rate."""
    try:
        schedule.step()
    except Exception as error:
        raise BadUsage(f"The recipe's schedule cannot go on: {error}".rstrip(".") + ".", _PER_STEP) from error
