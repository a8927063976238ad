"""A process beside nnx's own that takes its turns in :mod:`toolchain.bench.benchmark`, asked over a pipe.

:class:`Piped` is the parent's end. The child's is :func:`serve`, which needs the standard library alone: the child may
be another environment's Python, or a script that knows nothing of nnx.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self


class Piped:
    """``command`` answers on its pipe; a contestant as :mod:`toolchain.bench.group` knows them. It has no time-out."""

    def __init__(self, command: Sequence[str | Path], spec: dict[str, Any], *, threads: int) -> None:
        self._spec = spec
        self._process = subprocess.Popen(
            [*command, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    def open(self) -> None:
        self.ask("open", **self._spec)

    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any:
        """Give the turn to the process; raise JobFailed with what went wrong there."""
        from toolchain.processes.turns import JobFailed

        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": operation, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise JobFailed("crash", f"The process ended with exit code {self._process.wait()}.", "Try again.")
        answer = json.loads(line)
        if "error" in answer:
            raise JobFailed("bug", answer["error"], "Run that tool alone.")
        return answer["result"]

    def close(self) -> None:
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()


def serve(job: object) -> None:
    """Answer each line ``{"op": name, ...arguments}`` with ``{"result": ...}`` or ``{"error": text}``."""
    with _answers() as pipe:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = {"result": getattr(job, request.pop("op"))(**request)}
            except Exception as error:  # noqa: BLE001 - the edge of the process: the parent decides what it means
                answer = {"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
            print(json.dumps(answer), file=pipe, flush=True)


class PlainRow:
    """What a row is asked but for opening and outputs; whoever opens it sets ``_call`` and ``_load_ms``."""

    _call: Callable[[], Any]
    _load_ms: float

    def start(self) -> dict[str, float]:
        started = time.perf_counter_ns()
        self._call()
        return {"load_ms": self._load_ms, "first_run_ms": (time.perf_counter_ns() - started) / 1e6}

    def turn(self, **effort: Any) -> dict[str, Any]:
        return _timed(self._call, **effort)

    def memory(self) -> dict[str, int | None]:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)
        return {"peak_memory_bytes": peak}


def _timed(
    call: Callable[[], object], *, min_runs: int, most_kept: int, seconds: float, warm_up_s: float
) -> dict[str, Any]:
    """What anybody would write to time ``call``, as the answer to ``turn``."""
    clock = time.perf_counter_ns
    warm_until = clock() + int(warm_up_s * 1e9)
    while clock() < warm_until:
        call()
    samples: list[int] = []
    started = clock()
    while len(samples) < min_runs or clock() < started + seconds * 1e9:
        before = clock()
        call()
        samples.append(clock() - before)
    spent = clock() - started
    kept = samples[:: max(1, -(-len(samples) // most_kept))]
    return {"runs_ms": [sample / 1e6 for sample in kept], "runs": len(samples), "seconds": spent / 1e9}


@contextlib.contextmanager
def _answers() -> Iterator[Any]:
    """The pipe for answers; whatever the libraries print goes to stderr instead."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as pipe:
        os.dup2(2, 1)
        yield pipe
