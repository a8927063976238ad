"""What runs on the other machine while a bench asks it: it keeps files, starts programs, passes questions on to them.

Sent as text and run by a Python of that machine, 3.8 or later, whose standard library is all that it uses. A request is
a line of JSON; so is an answer, behind a mark, for shells greet. An empty line says that the asker is still there. When
that is silent for long, or gone, all ends, the programs too; a process that outlives this one removes the folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

MARK = b"nnx= "
PATIENCE_S = 90.0
CHUNK = 1 << 20
PDEATHSIG = 1  # of prctl


class Gone(Exception):
    """The asker is."""


class Refused(Exception):
    """A sentence without its end."""


class Asker:
    """Whoever sends requests, over the pipes of this process."""

    def __init__(self) -> None:
        self._held = b""

    def line(self) -> bytes:
        while b"\n" not in self._held:
            self._more()
        line, _, self._held = self._held.partition(b"\n")
        return line

    def content(self, size: int, file: BinaryIO) -> str:
        """The next ``size`` bytes go into ``file``; their SHA-256. All are taken, even where the disk is full."""
        digest, failure = hashlib.sha256(), None
        while size:
            if not self._held:
                self._more()
            part, self._held = self._held[:size], self._held[size:]
            size -= len(part)
            digest.update(part)
            try:
                if failure is None:
                    file.write(part)
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure
        return digest.hexdigest()

    def wait_for(self, other: int, deadline: float) -> bool:
        """Until ``other`` can be read, hearing meanwhile whether the asker is there; False when it is too late."""
        heard = time.monotonic()
        while True:
            left = min(deadline, heard + PATIENCE_S) - time.monotonic()
            ready = select.select([0, other], [], [], max(0.0, left))[0]
            if 0 in ready:
                self._more()
                heard = time.monotonic()
            if other in ready:
                return True
            if time.monotonic() >= deadline:
                return False
            if time.monotonic() >= heard + PATIENCE_S:
                raise Gone

    def answer(self, result: dict[str, Any], content: Path | None = None) -> None:
        try:
            sys.stdout.buffer.write(MARK + json.dumps(result).encode() + b"\n")
            if content is not None:
                with content.open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer, CHUNK)
            sys.stdout.buffer.flush()
        except OSError:
            raise Gone from None

    def _more(self) -> None:
        if not select.select([0], [], [], PATIENCE_S)[0]:
            raise Gone
        part = os.read(0, CHUNK)
        if not part:
            raise Gone
        self._held += part


class Worker:
    """A program that answers a line of JSON with one; what it says beside goes into ``log``."""

    def __init__(self, command: list[str], log: Path, *, threads: int, cpus: list[int]) -> None:
        self._log = log
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment,
                preexec_fn=lambda: _begin(cpus),
            )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout.fileno()

    def ask(self, asker: Asker, request: object, limit_s: float) -> dict[str, Any]:
        """Its line, or how it ended."""
        deadline, said = time.monotonic() + limit_s, b""
        with contextlib.suppress(OSError):  # it has ended, which is read below
            self._to.write(json.dumps(request).encode() + b"\n")
            self._to.flush()
        while not said.endswith(b"\n"):
            if not asker.wait_for(self._from, deadline):
                return self._ended(timed_out=True)
            part = os.read(self._from, CHUNK)
            if not part:
                return self._ended(timed_out=False)
            said += part
        return {"line": said.decode(errors="replace")}

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ended(self, *, timed_out: bool) -> dict[str, Any]:
        if timed_out:
            self._process.kill()
        code = self._process.wait()
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return {"code": code, "timed_out": timed_out, "last": " ".join(last)[-300:]}


def _begin(cpus: list[int]) -> None:
    """In the new process: it ends with this one, and keeps to its processors."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)
    if cpus:
        os.sched_setaffinity(0, cpus)


class Agent:
    """What the requests are about. ``base`` is a folder whose files stay; without one they go with the rest."""

    def __init__(self, asker: Asker, python: str, base: Path | None) -> None:
        self._asker, self._python = asker, python
        if base is not None:
            base.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="nnx-bench-", dir=base))
        cleaner = ["sh", "-c", 'cat >/dev/null; rm -rf "$0"', str(self._folder)]
        self._cleaner = subprocess.Popen(cleaner, stdin=subprocess.PIPE, start_new_session=True)
        self._kept = (base or self._folder) / "files"
        self._kept.mkdir(exist_ok=True)
        self._workers: dict[int, Worker] = {}
        self._started = 0

    def serve(self) -> None:
        while True:
            line = self._asker.line()
            if not line.strip():
                continue
            request = json.loads(line)
            operation = request.pop("op")
            try:
                result = getattr(self, f"do_{operation}")(**request)
            except Refused as refused:
                self._asker.answer({"refused": str(refused)})
            except OSError as error:
                self._asker.answer({"refused": (error.strerror or str(error)).lower()})
            else:
                self._asker.answer({"result": result}, self._outputs if operation == "get_outputs" else None)

    def do_lacks(self, sha256: list[str]) -> list[str]:
        """Those of the files that are not here, or not as they should be."""
        return [each for each in sha256 if not self._is_whole(each)]

    def do_put(self, sha256: str, size: int) -> None:
        """The file is behind the request; a half one, or another one, never gets its name."""
        place = self._folder / "coming"
        with place.open("wb", buffering=0) as file:
            found = self._asker.content(size, file)
        if found != sha256:
            raise Refused("what arrived is not what was sent")
        place.replace(self._kept / sha256)

    def do_make(self, files: dict[str, str], texts: dict[str, str]) -> str:
        """A folder of kept files, and of others whose text is given."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        for name, sha256 in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._kept / sha256, place)
            except OSError:
                shutil.copyfile(self._kept / sha256, place)
        for name, text in texts.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        return str(folder)

    def do_place_of(self, sha256: str) -> str:
        return str(self._kept / sha256)

    def do_start(self, program: str, threads: int, cpus: list[int]) -> int:
        self._started += 1
        log = self._folder / f"log{self._started}"
        try:
            self._workers[self._started] = Worker([self._python, program], log, threads=threads, cpus=cpus)
        except subprocess.SubprocessError:  # all that is told of what went wrong in the new process
            where = f" on processor {', '.join(map(str, cpus))}" if cpus else ""
            raise Refused(f"the program cannot be started{where}") from None
        return self._started

    def do_ask(self, worker: int, request: object, limit_s: float) -> dict[str, Any]:
        return self._workers[worker].ask(self._asker, request, limit_s)

    def do_end(self, worker: int) -> None:
        self._workers.pop(worker).end()

    def do_place_for_outputs(self) -> str:
        return str(self._outputs)

    def do_get_outputs(self) -> int:
        """How many bytes come behind the answer."""
        return self._outputs.stat().st_size

    def close(self) -> None:
        for worker in self._workers.values():
            worker.end()
        assert self._cleaner.stdin is not None
        self._cleaner.stdin.close()
        self._cleaner.wait()

    @property
    def _outputs(self) -> Path:
        return self._folder / "outputs"

    def _is_whole(self, sha256: str) -> bool:
        digest = hashlib.sha256()
        try:
            with (self._kept / sha256).open("rb") as file:
                for part in iter(lambda: file.read(CHUNK), b""):
                    digest.update(part)
        except OSError:
            return False
        return digest.hexdigest() == sha256


def main() -> None:
    python, base = sys.argv[1:]
    asker = Asker()
    try:
        agent = Agent(asker, python, Path.home() / base if base else None)
    except OSError as error:
        asker.answer({"refused": f"{base or 'its temporary folder'} cannot be used: {error.strerror}"})
        return
    try:
        asker.answer({"result": None})
        agent.serve()
    except Gone:
        return
    finally:
        agent.close()


if __name__ == "__main__":
    main()
