"""A model that several processes train: what its forward goes through, and where its gradients are summed."""

import contextlib
from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from toolchain.training.options import Parallel
from toolchain.training.world import World


def wrapped(model: torch.nn.Module, parallel: Parallel, world: World) -> torch.nn.Module:
    """``model`` itself in a world of one, else what gives every process the mean of all gradients at a step's end.

    Weights that a step does not reach get none: which ones these are may differ from step to step.
    """
    if world.size == 1:
        return model
    # buffers that all compute alike need not travel, and in evaluation they are the leader's: see `same_buffers`
    made = DistributedDataParallel(
        model, broadcast_buffers=not parallel.shared_norm, find_unused_parameters=_may_leave_out(model),
        gradient_as_bucket_view=True,
    )  # fmt: skip
    if parallel.reduction == "bf16":
        made.register_comm_hook(None, default_hooks.bf16_compress_hook)
    return made


def unsummed(forward: Any) -> contextlib.AbstractContextManager[object]:
    """In this block gradients only add up here: those of a part of a step that is not its last."""
    inner = getattr(forward, "_orig_mod", forward)
    return inner.no_sync() if isinstance(inner, DistributedDataParallel) else contextlib.nullcontext()


def same_buffers(model: torch.nn.Module, world: World) -> None:
    """The leader's running statistics in every process, as they are kept."""
    if world.size > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def _may_leave_out(model: torch.nn.Module) -> bool:
    """Whether a step may reach only some weights, so that the processes must tell one another which."""
    return any(not parameter.requires_grad for parameter in model.parameters())
