"""Processes that take one turn together: workers of one training, each with its part of every step."""

import socket
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from toolchain.bench.group import Contestant


class Together:
    """A contestant of ``processes`` workers that ``start`` makes; an answer is that of the first, once all have one."""

    def __init__(
        self, start: Callable[..., Contestant], job: str, spec: dict[str, Any], *, processes: int, **more: Any
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._workers = [
            start(job, {**spec, "world": {"rank": rank, "size": processes, "port": port}}, **more)
            for rank in range(processes)
        ]
        self._threads = ThreadPoolExecutor(processes)

    def open(self) -> None:
        self._all(lambda worker: worker.open())

    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any:
        return self._all(lambda worker: worker.ask(operation, extra_s=extra_s, **arguments))

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._threads.shutdown()

    def _all(self, act: Callable[[Contestant], Any]) -> Any:
        asked = [self._threads.submit(act, worker) for worker in self._workers]
        wait(asked, return_when=FIRST_EXCEPTION)
        for worker, answer in zip(self._workers, asked, strict=True):
            if answer.done() and (failure := answer.exception()) is not None:
                worker.close()  # the others wait for it, and hear so that it is gone
                wait(asked)
                raise failure
        return asked[0].result()
