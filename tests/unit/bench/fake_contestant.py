"""A contestant with scripted latencies, in place of a worker process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.accuracy import calls_file
from toolchain.processes.turns import JobFailed


class FakeContestant:
    """``latency_ms`` gives the runs' times; ``fails_at`` names the operation that fails, after ``turns`` turns."""

    def __init__(
        self,
        latency_ms: Iterator[float],
        *,
        fails_at: str = "",
        turns: int = 0,
        kind: str = "crash",
        outputs: Any = None,
        profile: Any = None,
    ) -> None:
        self._latency_ms, self._fails_at, self._turns, self._kind = latency_ms, fails_at, turns, kind
        self._profile = profile
        self._outputs = np.eye(4) if outputs is None else outputs
        self.closed = False

    def open(self) -> None:
        self._fail("open")

    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any:
        self._fail(operation)
        if operation == "start":
            nodes = {"CPUExecutionProvider": 3}
            return {"load_ms": 1.0, "first_run_ms": 2.0, "nodes": nodes, "facts": {"onnxruntime": "1.0"}}
        if operation == "turn":
            self._turns -= 1
            runs = [next(self._latency_ms) for _ in range(arguments["min_runs"])]
            return {"runs_ms": runs, "runs": len(runs), "seconds": sum(runs) / 1e3}
        if operation == "memory":
            return {"peak_memory_bytes": 1_000_000, "device_memory_bytes": None}
        if operation == "profile":
            if self._profile is None:
                raise JobFailed("bug", "It is scripted.", "Leave it.")
            return self._profile
        if operation == "outputs":
            outputs = self._outputs if isinstance(self._outputs, tuple) else (self._outputs,)
            calls_file.write(Path(arguments["path"]), [{f"out{place}": value for place, value in enumerate(outputs)}])
            return None
        raise AssertionError(operation)

    def close(self) -> None:
        self.closed = True

    def _fail(self, operation: str) -> None:
        if operation == self._fails_at and self._turns <= 0:
            raise JobFailed(self._kind, "It broke.", "Mend it.")


def starter(contestants: dict[str, FakeContestant]) -> Callable[..., FakeContestant]:
    """In place of ``Turn``: hands out the contestant that stands under the candidate's model."""
    return lambda job, spec, threads, **limits: contestants[spec["model"]]
