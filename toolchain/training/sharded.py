"""Weights of which every process keeps a part (FSDP; torch's fully_shard), and their state as one process has it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from toolchain.training.world import World

_LEAST_WEIGHTS = 1 << 16
"""Of a layer that is gathered by itself: below it the sending costs more than the memory is worth."""


def shard(model: torch.nn.Module, device: str, world: World) -> None:
    """Spread the weights of ``model``, in place: each layer's are together only while it runs.

    Those of layers that share some, and of a layer that attention reads without calling it, go with what is around.
    """
    torch.backends.mha.set_fastpath_enabled(False)  # which reads the weights of layers that it does not call
    mesh = init_device_mesh(device, (world.size,))
    modules = list(model.modules())
    owners = Counter(id(each) for module in modules for each in module.parameters(recurse=False))
    inside = {child for module in modules if isinstance(module, nn.MultiheadAttention) for child in module.children()}
    for child in reversed(modules[1:]):
        own = list(child.parameters(recurse=False))
        is_alone = child not in inside and all(owners[id(each)] == 1 for each in own)
        if is_alone and sum(each.numel() for each in own) >= _LEAST_WEIGHTS:
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
