"""Short messages between the processes of one machine, from the one thread that waits for them to the other.

gloo takes each through three threads of both processes, and where all cores are busy these wait for the scheduler: on
two cores 0.29 ms in the middle and 3.3 ms for one in ten, where this takes 0.03 and 0.09 (`make distributed`). A step
of a small net with a BatchNorm over all processes waits for 28 of them. torch.compile breaks its graph there.
"""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

LONGEST_BYTES = 64 * 1024
"""By default the kernel keeps two such for a reader that has not come yet, so no two writers wait for each other."""
_HERE, _TOKEN_BYTES, _RANK_BYTES, _TO_SAY_WHO_S, _AT_ONCE_S = "127.0.0.1", 16, 4, 2.0, 1e-3

_peers: dict[int, socket.socket] = {}
"""By rank; empty where not all processes are on this machine."""


@contextlib.contextmanager
def connected(*, timeout_s: float) -> Iterator[None]:
    """Connect the processes of torch's group while the block lasts; all must call it.

    Not where they are on several machines, or on GPUs, whose sums NCCL brings. ``timeout_s`` is how long one waits for
    another.
    """
    if dist.get_backend() != "gloo" or os.environ.get("LOCAL_WORLD_SIZE") != os.environ.get("WORLD_SIZE"):
        yield
        return
    rank, size = dist.get_rank(), dist.get_world_size()
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as stack:
        stack.callback(_peers.clear)
        with socket.create_server((_HERE, 0), backlog=size) as server:
            token = secrets.token_bytes(_TOKEN_BYTES)
            doors: list[tuple[int, bytes]] = [(0, b"")] * size
            dist.all_gather_object(doors, (server.getsockname()[1], token))
            for peer, (port, password) in enumerate(doors[:rank]):
                with _explained(peer):
                    _peers[peer] = stack.enter_context(socket.create_connection((_HERE, port), timeout_s))
                    _peers[peer].sendall(password + rank.to_bytes(_RANK_BYTES))
            while len(_peers) < size - 1:
                with _explained(None):
                    server.settimeout(max(_AT_ONCE_S, deadline - time.monotonic()))
                    caller = server.accept()[0]
                caller.settimeout(_TO_SAY_WHO_S)
                said = bytearray(_TOKEN_BYTES + _RANK_BYTES)
                with contextlib.suppress(OSError):  # in one piece, as it was sent, or it is nobody of ours
                    caller.recv_into(said)
                if not secrets.compare_digest(said[:_TOKEN_BYTES], token):  # any user of the machine may knock
                    caller.close()
                    continue
                _peers[int.from_bytes(said[_TOKEN_BYTES:])] = stack.enter_context(caller)
        for each in _peers.values():
            each.settimeout(timeout_s)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield


def gathered(own: torch.Tensor) -> torch.Tensor:
    """``(n,)`` float32 of each process as ``(processes, n)`` by rank, on CPUs; all must call it, with as many.

    Raises RuntimeError, as gloo does, where another process is gone or not heard in time.
    """
    every = own.new_empty(dist.get_world_size(), len(own))
    if not _peers or own.nbytes > LONGEST_BYTES:
        dist.all_gather(list(every), own)
        return every
    every[dist.get_rank()] = own
    message = _bytes_of(own)
    for peer, each in _peers.items():
        with _explained(peer):
            each.sendall(message)
    for peer, each in _peers.items():
        with _explained(peer):
            _fill(each, _bytes_of(every[peer]))
    return every


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    array: Any = tensor.numpy()
    return memoryview(array).cast("B")


def _fill(source: socket.socket, room: memoryview) -> None:
    while room:
        count = source.recv_into(room)
        if not count:
            raise EOFError
        room = room[count:]


@contextlib.contextmanager
def _explained(peer: int | None) -> Iterator[None]:
    whom = "a process" if peer is None else f"process {peer}"
    try:
        yield
    except TimeoutError as error:
        raise RuntimeError(f"timed out waiting for {whom} of the training") from error
    except (OSError, EOFError) as error:
        raise RuntimeError(f"connection closed by {whom} of the training") from error
