"""Where the processes of one attempt meet: torchrun keeps what those of the attempt before have told one another."""

import datetime
import time
import uuid

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

_PAUSE_S = 0.02
_KEY = "nnx/attempt"


def met(*, timeout_s: float) -> tuple[Store, int]:
    """A store that the processes of this attempt share with none before, and the number of the attempt, from 1.

    torchrun's store outlives a restart (https://github.com/pytorch/pytorch/issues/135712), so that a process may take
    the address of one that is dead for that of its successor; and TORCHELASTIC_RESTART_COUNT is a machine's own: where
    a process of another machine failed, it does not grow. So the leader numbers the attempts, and confirms each
    process under a name that none before it had. What NCCL's watchdog notes it notes in torchrun's store itself.
    Raises RuntimeError (torch's DistError for its store) where one is not heard within ``timeout_s``.
    """
    store, rank, size = next(rendezvous("env://", timeout=datetime.timedelta(seconds=timeout_s)))
    deadline = time.monotonic() + timeout_s
    attempt = _led(store, size, deadline) if rank == 0 else _followed(store, rank, deadline)
    return PrefixStore(f"{_KEY}/{attempt}/all", store), attempt


def _led(store: Store, size: int, deadline: float) -> int:
    attempt = store.add(_KEY, 1)
    for rank in range(1, size):
        while not store.check([f"{_KEY}/{attempt}/{rank}"]):
            _wait(deadline, f"process {rank}")
        store.set(f"{_KEY}/{attempt}/{store.get(f'{_KEY}/{attempt}/{rank}').decode()}", "")
    return attempt


def _followed(store: Store, rank: int, deadline: float) -> int:
    own, attempt = uuid.uuid4().hex, 0
    while not attempt or not store.check([f"{_KEY}/{attempt}/{own}"]):
        newest = store.add(_KEY, 0)
        if newest != attempt:
            attempt = newest
            store.set(f"{_KEY}/{attempt}/{rank}", own)
        _wait(deadline, "process 0")
    return attempt


def _wait(deadline: float, for_whom: str) -> None:
    if time.monotonic() > deadline:
        raise RuntimeError(f"timed out waiting for {for_whom} of the training")
    time.sleep(_PAUSE_S)
