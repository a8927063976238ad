"""The parent side: processes that wait for their turn, each doing one job alone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolchain.machine import memory_limit
from toolchain.processes import own_packages

_PACKAGES = ("toolchain", "exporters", "runtimes")
_CLOSE_TIMEOUT_S = 5.0
_PHASES = {"open": "load", "start": "run the first time", "turn": "take its turn"}


class JobFailed(Exception):
    """The job answered with an error, crashed, or took too long; ``kind`` is the error's class, crash or timeout."""

    def __init__(self, kind: str, what: str, do: str) -> None:
        super().__init__(what)
        self.kind, self.what, self.do = kind, what, do


class Turn:
    """A child process with one job, a module with ``open_job``; it sleeps on its pipe between requests.

    It is pinned to ``cpus`` if any. ``python`` is another interpreter to run it, with libraries of its own. An answer
    that takes longer than ``timeout_s`` ends it. Raises JobFailed when ``python`` cannot be started.
    """

    def __init__(
        self,
        job: str,
        spec: dict[str, Any],
        *,
        threads: int,
        cpus: Sequence[int] = (),
        python: str | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self._job, self._spec, self._timeout_s = job, spec, timeout_s
        self._resources = contextlib.ExitStack()
        self._log = self._resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed with the process
        folder = own_packages.PARENT if python is None else self._packages_alone()
        try:
            self._process = subprocess.Popen(
                [python or sys.executable, "-m", "toolchain.processes.worker", *map(str, cpus)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                cwd=folder,
                env={
                    # another interpreter has libraries of its own, to which a PYTHONPATH for ours does not lead
                    **own_packages.environment(folder, inherited=python is None),
                    "OMP_NUM_THREADS": str(threads),
                    "MKL_NUM_THREADS": str(threads),
                },
            )
        except OSError as error:
            self._resources.close()
            raise JobFailed(
                "ProviderUnavailable", f"{python} cannot be started: {os.strerror(error.errno or 0)}.",
                "Give the path of a Python interpreter.",
            ) from error  # fmt: skip
        memory_limit.lift_from(self._process.pid)

    def _packages_alone(self) -> Path:
        """A folder with nnx's packages and nothing else: where they are installed lie libraries for another Python."""
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="nnx-packages-")))
        for name in _PACKAGES:
            (folder / name).symlink_to(own_packages.PARENT / name, target_is_directory=True)
        return folder

    def open(self) -> None:
        """Start the job; raise JobFailed with its reason when it cannot start."""
        self.ask("open", job=self._job, **self._spec)

    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any:
        """Give the turn to the child and wait for its answer, ``extra_s`` longer than the time-out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = _Watchdog(self._process, self._timeout_s + extra_s)
        with watchdog:
            try:
                self._process.stdin.write(json.dumps({"op": operation, **arguments}) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            raise self._death(operation, timed_out=watchdog.fired)
        return answer_in(line)

    def close(self) -> None:
        """End the process; a second call does nothing."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            self._process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._resources.close()

    def _death(self, operation: str, *, timed_out: bool) -> JobFailed:
        code = self._process.wait()
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        return death(operation, code, " ".join(last), limit_s=self._timeout_s if timed_out else None)


def answer_in(line: str) -> Any:
    """The result that a job's line holds; raise JobFailed for an error, and for what is no answer."""
    try:
        answer = json.loads(line)
    except ValueError:
        what = f"It said '{line.strip()[:80]}' where an answer was due."
        raise JobFailed("crash", what, "Give an interpreter that prints nothing of its own.") from None
    if "error" in answer:
        raise JobFailed(**answer["error"])
    return answer["result"]


def death(operation: str, code: int, last_words: str, *, limit_s: float | None) -> JobFailed:
    """Why a job gave no answer: it ended with ``code``, or took longer than ``limit_s``, where that is given."""
    if limit_s is not None:
        phase = f" to {_PHASES[operation]}" if operation in _PHASES else ""
        what = f"It took longer than {limit_s:g} s{phase}."
        return JobFailed("timeout", what, "Allow it more time, or try a smaller batch.")
    if code == -getattr(signal, "SIGKILL", 9):
        return JobFailed("crash", "It was killed, most likely for want of memory.", "Try a smaller batch.")
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return JobFailed("crash", f"Its process ended {how}. {last_words}".strip(), "Run that row alone.")


class _Watchdog:
    """Kills the process when the block takes longer than the limit."""

    def __init__(self, process: subprocess.Popen[str], limit_s: float) -> None:
        self.fired = False
        self._process = process
        self._timer = threading.Timer(limit_s, self._kill)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *ignored: object) -> None:
        self._timer.cancel()

    def _kill(self) -> None:
        self.fired = True
        self._process.kill()
