"""Short messages between processes of one machine, and the BatchNorm that is made of them."""

import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.contract.training.processes import together
from toolchain.training import shared_norm, side_by_side
from toolchain.training.world import World

_LENGTHS = (0, 1, 129, side_by_side.LONGEST_BYTES // 4, side_by_side.LONGEST_BYTES // 4 + 1)


def exchanged(world: World) -> list[list[torch.Tensor]]:
    """By either way the same, as often as one likes; the second time without connections of our own."""
    found = []
    for _ in range(2):
        own = [torch.arange(length, dtype=torch.float32) + world.rank / 7 for length in _LENGTHS]
        found.append([side_by_side.gathered(each) for each in own for _ in range(20)])
        side_by_side._peers.clear()
    return found


def test_each_gets_what_all_gave_as_torch_would_bring_it(tmp_path: Path) -> None:
    everyone = together(3, exchanged, tmp_path)
    for connected, by_gloo in everyone:
        for found, expected, first in zip(connected, by_gloo, everyone[0][0], strict=True):
            assert torch.equal(found, expected)
            assert torch.equal(found, first)


def left(world: World) -> str:
    if world.rank == 1:
        for each in side_by_side._peers.values():
            each.close()
        return ""
    with pytest.raises(RuntimeError) as caught:
        for _ in range(3):  # what is sent before the other's end is known may be lost in silence
            side_by_side.gathered(torch.zeros(3))
    return str(caught.value)


def kept_waiting(world: World) -> str:
    if world.rank == 1:
        time.sleep(3)
        return ""
    for each in side_by_side._peers.values():
        each.settimeout(0.5)
    with pytest.raises(RuntimeError) as caught:
        side_by_side.gathered(torch.zeros(3))
    return str(caught.value)


def test_one_that_is_gone_or_silent_is_told_as_torch_tells_it(tmp_path: Path) -> None:
    assert together(2, left, tmp_path)[0] == "connection closed by process 1 of the training"
    assert together(2, kept_waiting, tmp_path)[0] == "timed out waiting for process 1 of the training"


def with_strangers(world: World) -> list[float]:
    """Whoever else knocks at the leader's door before the others do is sent away."""
    side_by_side._peers.clear()
    real = socket.create_server
    strangers = []

    def knocked_at(*given: Any, **more: Any) -> socket.socket:
        server = real(*given, **more)
        for said in (b"", b"x", secrets.token_bytes(20)):
            strangers.append(socket.create_connection(server.getsockname()))
            strangers[-1].sendall(said)
            if said != b"x":  # that one goes on to say nothing
                strangers[-1].shutdown(socket.SHUT_WR)
        return server

    with pytest.MonkeyPatch.context() as patch:
        if world.leads:
            patch.setattr(socket, "create_server", knocked_at)
        with side_by_side.connected(timeout_s=10):
            assert sorted(side_by_side._peers) == [rank for rank in range(world.size) if rank != world.rank]
            found = side_by_side.gathered(torch.tensor([float(world.rank)]))
        for each in strangers:
            each.close()
    every: list[float] = found.flatten().tolist()
    return every


def test_strangers_are_sent_away(tmp_path: Path) -> None:
    assert together(3, with_strangers, tmp_path) == [[0.0, 1.0, 2.0]] * 3


def on_several_machines(world: World) -> int:
    side_by_side._peers.clear()
    os.environ["LOCAL_WORLD_SIZE"] = "1"
    with side_by_side.connected(timeout_s=10):
        assert side_by_side.gathered(torch.zeros(1)).shape == (world.size, 1)
        return len(side_by_side._peers)


def test_between_machines_torch_sends(tmp_path: Path) -> None:
    assert together(2, on_several_machines, tmp_path) == [0, 0]


_SHAPES = {
    "rows": (8, 3), "sequences": (8, 3, 5), "images": (8, 3, 4, 5), "channels_last": (8, 3, 4, 5),
    "one pixel": (8, 3, 1, 1), "volumes": (8, 3, 2, 3, 4), "without weights": (8, 3, 4, 5),
}  # fmt: skip
_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def normalized(world: World) -> dict[str, list[torch.Tensor]]:
    """Of uneven parts of a batch: what comes out, both gradients, and the running statistics, beside those of all."""
    found = {}
    for name, shape in _SHAPES.items():
        torch.manual_seed(3)
        whole, gradient = (torch.randn(shape) * 2 + 1).double(), torch.randn(shape).double()
        norm = _NORMS[len(shape)](3, affine=name != "without weights")
        for each in norm.parameters():
            nn.init.uniform_(each, 0.5, 2.0)
        parts = [slice(0, 3), slice(3, 8)] if world.size == 2 else [slice(None)]
        own = whole[parts[world.rank]].float()
        share = gradient[parts[world.rank]].float()
        if name == "channels_last":
            own, share = (each.contiguous(memory_format=torch.channels_last) for each in (own, share))
        right, module = norm.double(), shared_norm.shared(nn.Sequential(_like(norm)), "cpu")
        own.requires_grad_()
        whole.requires_grad_()
        made, expected = module(own), right(whole)
        made.backward(share)
        expected.backward(gradient)
        sums = [world.total(each.grad) for each in module.parameters() if each.grad is not None]
        assert own.grad is not None
        assert whole.grad is not None
        found[name] = [
            (each.detach().double() - beside.detach()) / beside.detach().abs().max()  # gradients of weights are sums
            for each, beside in zip(
                [made, own.grad, *sums, *module.buffers()],
                [
                    expected[parts[world.rank]], whole.grad[parts[world.rank]],
                    *(each.grad for each in right.parameters() if each.grad is not None), *right.buffers(),
                ],
                strict=True,
            )
        ]  # fmt: skip
    assert dist.is_initialized()
    return found


def _like(norm: Any) -> nn.Module:
    made: nn.Module = type(norm)(3, affine=norm.affine)
    made.load_state_dict({name: each.float() for name, each in norm.state_dict().items()}, strict=True)
    return made


def test_it_is_the_batch_norm_of_the_whole_batch(tmp_path: Path) -> None:
    for found in together(2, normalized, tmp_path):
        for name, differences in found.items():
            assert max(float(each.abs().max()) for each in differences) < 2e-6, name
