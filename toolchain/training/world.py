"""The processes that train together, as torchrun starts them: which one this is, and what they tell one another."""

import contextlib
import datetime
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from exporters.errors import in_words
from toolchain.errors import BadUsage, NotAvailable
from toolchain.processes.worker import die_with_parent
from toolchain.training import rendezvous, side_by_side

_LOST = ("gloo", "nccl", "pair closure", "connection closed", "connection reset", "timed out", "broken pipe", "socket")
"""Of what torch says when another process is gone or hangs, which is a RuntimeError for gloo."""
_TO_HEAR_S, _TO_SPEAK_S = 3.0, 10.0
"""How long one waits that another says what happened to it, and that the leader says what happened to all."""
LAUNCHER = "NNX_LAUNCHER"
"""The number of the process that started the training's, where it is one of ours."""


class AnotherIsGone(NotAvailable):
    """Another process ended, or is not heard any more: the reason is its own, and this one only hears of it."""


@dataclass(frozen=True)
class World:
    """``size`` processes, of which this is number ``rank``; alone, nothing is sent, and every answer is its own."""

    rank: int = 0
    size: int = 1
    is_a_restart: bool = False
    """Whether all were started anew, after one of them had failed or a machine had come."""

    @property
    def leads(self) -> bool:
        """Whether this is the one that reads and writes files and talks to the user."""
        return self.rank == 0

    def told(self, content: Any = None) -> Any:
        """What the leader gives, in every process; all must call it."""
        if self.size == 1:
            return content
        box = [content]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, content: Any) -> list[Any]:
        """What each process gives, by rank, in every process; all must call it."""
        if self.size == 1:
            return [content]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, content)
        return found

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place; all must call it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def require_agreement(self, own: Mapping[str, Any]) -> None:
        """BadUsage that names the first process which has something else than the leader, and what."""
        everyone = self.gathered(dict(own))
        for rank, each in enumerate(everyone):
            differing = [name for name in own if each.get(name) != everyone[0].get(name)]
            if differing:
                what = ", ".join(name.replace("_", " ") for name in differing)
                raise BadUsage(
                    f"Process {rank} of the training has another {what} than process 0.",
                    "Start all of them with the same command, code, data and versions.",
                )


ALONE = World()


def started_by_torchrun() -> bool:
    """Whether several processes were started to train together, by whatever sets torch's environment."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def joined(device: str, *, timeout_s: float) -> Iterator[World]:
    """The world of this process while the block lasts: gloo between CPUs, NCCL between GPUs; one of size 1 by itself.

    ``timeout_s`` is how long one waits for the others before it takes them for hanging. Raises AnotherIsGone for what
    torch says when another process is gone, and NotAvailable where there are fewer GPUs than processes.
    """
    if not started_by_torchrun():
        yield World(is_a_restart=_machine_began_anew())
        return
    launcher = os.environ.get(LAUNCHER)
    die_with_parent(int(launcher) if launcher else None)
    try:
        with _one_voice(), _told(timeout_s):
            if device == "cuda":
                _take_own_gpu()
            store, attempt = rendezvous.met(timeout_s=timeout_s)
            rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            backend = "nccl" if device == "cuda" else "gloo"
            timeout = datetime.timedelta(seconds=timeout_s)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
            world = World(rank, size)
            again = world.gathered(attempt > 1 or _machine_began_anew())  # a new store begins to count anew
            with side_by_side.connected(timeout_s=timeout_s):
                yield replace(world, is_a_restart=any(again))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _machine_began_anew() -> bool:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _take_own_gpu() -> None:
    here, there_are = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    most = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if most > there_are:  # all come to it, not those alone that have none
        raise NotAvailable(
            f"{most} processes of this machine want a GPU each, and there are {there_are}.",
            "Start as many processes as there are GPUs, or use --device cpu.",
        )
    torch.cuda.set_device(here)


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Of an error that all come to the leader speaks alone, and whoever only hears of one lets its owner speak.

    The launcher ends the others as soon as one has ended, which takes longer on a busy machine.
    """
    try:
        yield
    except AnotherIsGone:
        time.sleep(_TO_HEAR_S)
        raise
    except Exception:
        if os.environ["RANK"] != "0":
            time.sleep(_TO_SPEAK_S)
        raise


@contextlib.contextmanager
def _told(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, dist.DistError) and not _of_the_others(error):
            raise
        why = "hangs" if "timed out" in text.lower() or "timeout" in text.lower() else "is gone"
        raise AnotherIsGone(
            f"Another process of the training {why}: {in_words(error)}.",
            f"See what it said; --hang-timeout is {timeout_s:g} s."
            if why == "hangs"
            else "See what it said; with --max-restarts all begin again after the last whole epoch.",
        ) from error


def _of_the_others(error: BaseException) -> bool:
    """Whether it came up while this process waited for the others: gloo has no kind of errors of its own."""
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    waited = any(Path(name).name == "distributed_c10d.py" for name in frames)
    return waited or any(sign in str(error).lower() for sign in _LOST)
