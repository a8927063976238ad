"""Commands of nnx in a forked process each, watched: its exit code, time, memory, and the files it leaves.

The process that forks has imported everything and opened no session, so that a run costs what the command does and
not two seconds of imports. Each run has a folder of its own: ``here`` to work in, ``tmp`` for TMPDIR, ``home``.
"""

import atexit
import hashlib
import os
import select
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from toolchain.processes.worker import die_with_parent

SECONDS, MEMORY_BYTES = 20.0, 2 << 30
_POLL_S = 0.05
_STDERR_KEPT = 20_000


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a command went; ``code`` is negative for a signal, ``stopped`` says "time" or "memory" where we ended it."""

    command: str
    code: int
    seconds: float
    peak_bytes: int
    stopped: str
    out: str
    err: str
    left: tuple[str, ...]
    changed: tuple[str, ...]
    memory_bytes: int = MEMORY_BYTES
    """The limit under which it ran."""

    @property
    def traceback_end(self) -> str:
        """The last lines of a traceback on stderr, and the line of ours that it came from; empty where none is."""
        start = self.err.rfind("Traceback (most recent call last)")
        if start < 0:
            return ""
        lines = [line for line in self.err[start:].splitlines() if line.strip() and not line.startswith("nnx:")]
        ours = [
            line.strip() for line in lines if "/toolchain/" in line or "/exporters/" in line or "/runtimes/" in line
        ]
        error = next((line for line in reversed(lines) if not line.startswith(" ") and ":" in line), lines[-1])
        return f"{error[:200]} | {ours[-1][-120:] if ours else ''}"


class Place:
    """A folder to run commands in; knows which files lay there and what they held."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.here, self.tmp = folder, folder / "here", folder / "tmp"
        for each in (self.here, self.tmp, folder / "home"):
            each.mkdir(parents=True, exist_ok=True)

    @classmethod
    @contextmanager
    def new(cls) -> Iterator["Place"]:
        """A fresh one, removed afterwards: every forked process would remove a TemporaryDirectory at its end."""
        folder = Path(tempfile.mkdtemp(prefix="hard-"))
        try:
            yield cls(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def nnx(
        self,
        *arguments: str,
        makes: tuple[str, ...] = (),
        seconds: float = SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        before: Callable[[], None] | None = None,
    ) -> Run:
        """Run ``nnx ARGUMENTS`` here; ``makes`` names what it may leave, ``before`` is called in its process first."""

        def act() -> int:
            from toolchain.cli import main

            sys.argv = ["nnx", *arguments]
            if before is not None:
                before()
            try:
                main()
            except SystemExit as stop:
                return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            return 0

        held = self._contents()
        code, took, peak, stopped = watched(act, self, seconds=seconds, memory_bytes=memory_bytes)
        now = self._contents()
        expected = {*makes, *held}
        left = tuple(
            sorted(name for name in now if name not in expected and not name.startswith(tuple(makes) or ("\0",)))
        )
        changed = tuple(sorted(name for name, was in held.items() if now.get(name) != was and name not in makes))
        return Run(
            command=shlex.join(("nnx", *arguments)), code=code, seconds=took, peak_bytes=peak, stopped=stopped,
            out=_text(self.folder / "out"), err=_text(self.folder / "err"), left=left, changed=changed,
            memory_bytes=memory_bytes,
        )  # fmt: skip

    def _contents(self) -> dict[str, str]:
        found = {}
        for root in (self.here, self.tmp):
            for path in sorted(root.rglob("*")):
                name = str(path.relative_to(root if root is self.here else self.folder))
                if "__pycache__" in name:  # Python's own, beside a file that the user named
                    continue
                if path.is_symlink():
                    found[name] = str(path.readlink())
                elif path.is_file():
                    found[name] = (
                        hashlib.sha256(path.read_bytes()).hexdigest() if _small(path) else str(path.stat().st_size)
                    )
                elif root is self.tmp:
                    found[name] = "folder"
        return found


def warm(*, exporter: bool = False) -> None:
    """Import all that a command may want, so that forked ones need not; what torch.onnx loads late too, if told so."""
    import onnxruntime
    import torch  # noqa: F401

    from toolchain import pipeline
    from toolchain.cli import COMMANDS, nnx

    onnxruntime.set_default_logger_severity(3)
    for name in COMMANDS:
        nnx.get_command(None, name)  # type: ignore[arg-type]
    del pipeline
    if exporter:
        _export_something()


def _export_something() -> None:
    import torch

    from exporters import torch_onnx

    torch.set_num_threads(1)  # what is forked from a process whose OpenMP has run would wait for it for ever
    with tempfile.TemporaryDirectory() as folder:
        example, module = {"x": torch.zeros(2, 3)}, torch.nn.Linear(3, 3)
        torch_onnx.export(module, Path(folder) / "x.onnx", example_inputs=example, output_names=["y"])


def watched(
    act: Callable[[], int], place: Place, *, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES
) -> tuple[int, float, int, str]:
    """``act`` in a forked process at ``place``: its exit code, the seconds, the peak memory, and why it was stopped."""
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.monotonic()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(parent)  # whose limits it is under
        _become(act, place)
    peak, stopped = 0, ""
    handle = os.pidfd_open(pid)
    try:
        while not select.select([handle], [], [], _POLL_S)[0]:
            peak = max(peak, _tree_bytes(pid))
            stopped = stopped or ("memory" if peak > memory_bytes else "")
            stopped = stopped or ("time" if time.monotonic() - started > seconds else "")
            if stopped:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
    finally:
        os.close(handle)
    _, status, usage = os.wait4(pid, 0)
    took = time.monotonic() - started
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # whom it started and left behind
    return os.waitstatus_to_exitcode(status), took, max(peak, usage.ru_maxrss * 1024), stopped


def _become(act: Callable[[], int], place: Place) -> None:
    """In the child: its own session, streams and folders; never returns."""
    code = 70
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(place.folder / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644), number)
        os.chdir(place.here)
        os.environ |= {"TMPDIR": str(place.tmp), "HOME": str(place.folder / "home"), "COLUMNS": "120"}
        os.environ.pop("XDG_CACHE_HOME", None)
        tempfile.tempdir = None
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        code = act()
        atexit._run_exitfuncs()
        print(end="", flush=True)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _tree_bytes(pid: int) -> int:
    """The memory in use by a process and those that it started."""
    total = 0
    with suppress(OSError, ValueError, IndexError):
        total = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                total += _tree_bytes(int(child))
    return total


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-_STDERR_KEPT:]


def _small(path: Path) -> bool:
    return path.stat().st_size < 64 << 20
