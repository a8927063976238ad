"""The parent side: processes that wait for their turn, each doing one job alone."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

_PACKAGE_PARENT = Path(__file__).resolve().parent.parent
_CLOSE_TIMEOUT_S = 5.0


class JobFailed(Exception):
    """The job answered with an error, crashed, or took too long; ``kind`` is the error's class, crash or timeout."""

    def __init__(self, kind: str, what: str, do: str) -> None:
        super().__init__(what)
        self.kind, self.what, self.do = kind, what, do


class Turn:
    """A child process with one job (a key of ``toolchain.worker.JOBS``); it sleeps on its pipe between requests."""

    def __init__(self, job: str, spec: dict[str, Any], *, threads: int, timeout_s: float = 600.0) -> None:
        self._job, self._spec, self._timeout_s = job, spec, timeout_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        path = os.pathsep.join([str(_PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "toolchain.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # `python -m` imports from here first: our own folder, not the user's or one where anybody may write
            cwd=_PACKAGE_PARENT,
            env={
                **os.environ,
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": str(threads),
                "MKL_NUM_THREADS": str(threads),
            },
        )

    def open(self) -> None:
        """Start the job; raise JobFailed with its reason when it cannot start."""
        self.ask("open", job=self._job, **self._spec)

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Give the turn to the child and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = _Watchdog(self._process, self._timeout_s)
        with watchdog:
            try:
                self._process.stdin.write(json.dumps({"op": operation, **arguments}) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            raise self._death(watchdog.fired)
        answer = json.loads(line)
        if "error" in answer:
            raise JobFailed(**answer["error"])
        return answer["result"]

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
        self._log.close()

    def _death(self, timed_out: bool) -> JobFailed:
        code = self._process.wait()
        if timed_out:
            return JobFailed("timeout", f"It took longer than {self._timeout_s:.0f} s.", "Try a smaller batch.")
        if code == -getattr(signal, "SIGKILL", 9):
            return JobFailed("crash", "It was killed, most likely for want of memory.", "Try a smaller batch.")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        return JobFailed("crash", f"Its process ended {how}. {' '.join(last)}".strip(), "Run that row alone.")


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
