"""Weights of which every process keeps a part (FSDP; torch's fully_shard), and their state as one process has it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from toolchain.training.world import World

_LEAST_WEIGHTS = 1 << 16
"""Of a layer that is gathered by itself: below it the sending costs more than the memory is worth."""


def shard(model: torch.nn.Module, device: str, world: World) -> None:
    """Spread the weights of ``model``, in place: each layer's are together only while it runs."""
    mesh = init_device_mesh(device, (world.size,))
    for child in reversed(list(model.modules())):
        weights = sum(each.numel() for each in child.parameters(recurse=False))
        if child is not model and weights >= _LEAST_WEIGHTS:
            fully_shard(child, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: Any) -> bool:
    return isinstance(model, FSDPModule)


def whole(content: Any) -> Any:
    """``content`` with the whole of each tensor of which there are parts, on the host; all processes must call it."""
    if isinstance(content, DTensor):
        return content.full_tensor().cpu()
    if isinstance(content, dict):
        return {key: whole(value) for key, value in content.items()}
    return [whole(value) for value in content] if isinstance(content, list) else content


def load(model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Put what :func:`whole` made of both state_dicts, ``model`` and ``optimizer`` in ``state``, back in parts."""
    now = model.state_dict()
    model.load_state_dict({name: _like(value, now[name]) for name, value in state["model"].items()})
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    kept = state["optimizer"]
    parts = {
        number: {
            name: _like(value, parameters[number]) if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in of_one.items()
        }
        for number, of_one in kept["state"].items()
    }
    optimizer.load_state_dict({**kept, "state": parts})


def _like(value: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    return distribute_tensor(value, given.device_mesh, given.placements) if isinstance(given, DTensor) else value
