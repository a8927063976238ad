"""Several processes of this machine that call one function together, as torchrun would start them."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolchain.training.world import World, joined

TIMEOUT_S = 60.0


def together(count: int, function: Callable[[World], Any], folder: Path) -> list[Any]:
    """What ``function`` of a module returns in each of ``count`` processes, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(count):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        given = pickle.dumps((function, folder / f"{rank}.pickle"))
        command = [sys.executable, "-c", "from tests.contract.training.processes import main; main()"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        running.append(process)
    assert [process.wait(300) for process in running] == [0] * count
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(count)]


def main() -> None:
    """In such a process."""
    function, result = pickle.loads(sys.stdin.buffer.read())
    with joined("cpu", timeout_s=TIMEOUT_S) as world:
        found = function(world)
    result.write_bytes(pickle.dumps(found))
