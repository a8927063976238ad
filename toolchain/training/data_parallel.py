"""A model that several processes train: what its forward goes through, and where its gradients are averaged."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from toolchain.errors import BadUsage
from toolchain.training import sharded
from toolchain.training.options import Parallel
from toolchain.training.world import World

_NOT_REACHED = "Expected to have finished reduction in the prior iteration"
_IN_PARTS = "got mixed torch.Tensor and DTensor"


def wrapped(model: torch.nn.Module, parallel: Parallel, world: World, *, reaches_all: bool) -> torch.nn.Module:
    """``model`` itself in a world of one, or with FSDP, else what gives each process the mean of all gradients.

    ``reaches_all`` says that a step changes all weights: otherwise the processes tell one another which, which costs.
    """
    if world.size == 1 or parallel.fsdp:
        return model
    made = DistributedDataParallel(
        model, broadcast_buffers=not parallel.shared_norm, find_unused_parameters=not reaches_all,
        gradient_as_bucket_view=True,
    )  # fmt: skip
    if parallel.reduction == "bf16":
        made.register_comm_hook(None, _in_bf16)
    return made


def _in_bf16(_: object, bucket: Any) -> torch.futures.Future[torch.Tensor]:
    """As torch's bf16_compress_hook, which is for accelerators alone."""
    buffer = bucket.buffer()
    half = buffer.to(torch.bfloat16).div_(dist.get_world_size())
    work = dist.all_reduce(half, async_op=True)
    assert work is not None
    averaged: torch.futures.Future[torch.Tensor] = work.get_future().then(lambda future: buffer.copy_(half))
    return averaged


@contextlib.contextmanager
def apart(forward: Any) -> Iterator[None]:
    """In this block gradients only add up here: those of a part of a step that is not its last."""
    inner = getattr(forward, "_orig_mod", forward)
    if sharded.is_sharded(inner):
        inner.set_requires_gradient_sync(False)
        yield
        inner.set_requires_gradient_sync(True)
        return
    with inner.no_sync() if isinstance(inner, DistributedDataParallel) else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """BadUsage for a model that leaves out other weights from step to step, which torch calls unfinished reduction.

    And for one that uses the weights of a layer without calling it, which with FSDP are a part of them.
    """
    try:
        yield
    except RuntimeError as error:
        if _IN_PARTS in str(error):
            raise BadUsage(
                "With --fsdp, a layer of this model uses another one's weights without calling it.",
                "Train it without --fsdp.",
            ) from error
        if _NOT_REACHED not in str(error):
            raise
        raise BadUsage(
            "Some steps of this model reach all of its weights and some do not.", "Train it in one process."
        ) from error


def same_buffers(model: torch.nn.Module, world: World) -> None:
    """The leader's running statistics in every process, as they are kept."""
    if world.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
