"""The one road to another machine: its Python, which runs agent.py there, answers over the system's ssh."""

import contextlib
import json
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import IO, Any

from toolchain.errors import NotAvailable
from toolchain.hosts.address import Address
from toolchain.processes import last_words
from toolchain.processes.turns import JobFailed, answer_in, death

_MARK, _NO = b"nnx= ", b"nnx.no "
_BEGIN_S = 120.0
"""Importing onnxruntime takes 10 s where a card is slow, and 20 under emulation."""
_BEAT_S = 20.0
"""How often the other side hears that we are still there; see PATIENCE_S of agent.py."""
_GRACE_S = 30.0
_SLOWEST_PER_S = 20_000.0
"""Bytes: a line that carries less is called dead."""
_OPTIONS = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=30")
"""Of ssh: it gives up a line on which nothing comes back."""
_OF_SSH = 255


class Connection:
    """Open while the block lasts. ``asks`` says that ssh may ask the user for a password.

    Raises NotAvailable where it cannot be opened; JobFailed, from every method, for what the machine refuses, and once
    it is lost, from then on.
    """

    def __init__(self, address: Address, *, python: str | None, asks: bool) -> None:
        self._address, self._lost, self._ended_by, self._is_open = address, "", "", False
        script = script_of("begin.sh", python=python or "", base=address.folder, agent=text_of("agent.py"))
        command = command_to(address, script, asks=asks)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said)
        except FileNotFoundError as error:
            self._said.close()
            raise NotAvailable(f"There is no {command[0]} on this machine.", "Install OpenSSH's client.") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from, self._writing = self._process.stdin, self._process.stdout, threading.Lock()
        self._over = threading.Event()
        self._begin(script)

    def ask(self, operation: str, *, takes_s: float = 0.0, **arguments: Any) -> Any:
        """The answer to one request, which may take so long by itself."""
        with self._watched(takes_s + _GRACE_S):
            self._send({"op": operation, **arguments})
            return self._answer()

    def ask_worker(self, worker: int, operation: str, *, limit_s: float, told_s: float, **arguments: Any) -> Any:
        """What a program there answers within ``limit_s``; where it does not, it is said to have had ``told_s``."""
        request = {"op": operation, **arguments}
        said = self.ask("ask", takes_s=limit_s, worker=worker, request=request, limit_s=limit_s)
        if "line" in said:
            return answer_in(said["line"])
        raise death(operation, said["code"], said["last"], limit_s=told_s if said["timed_out"] else None)

    def put(self, file: Path, sha256: str) -> None:
        """Send a file, which is kept there by its digest."""
        size = file.stat().st_size
        with self._watched(_GRACE_S + size / _SLOWEST_PER_S), file.open("rb") as content:
            self._send({"op": "put", "sha256": sha256, "size": size}, content)
            self._answer()

    def get_outputs(self, file: Path) -> None:
        """Leave as ``file`` what a row has left in the place for outputs."""
        left = int(self.ask("get_outputs"))
        with self._watched(_GRACE_S + left / _SLOWEST_PER_S), file.open("wb") as content:
            while left:
                part = self._from.read(min(left, 1 << 20))
                if not part:
                    raise self._broken()
                content.write(part)
                left -= len(part)

    def close(self) -> None:
        """Let it tidy up, and wait for that; a second call does nothing."""
        self._over.set()
        with self._watched(_GRACE_S):
            with contextlib.suppress(OSError), self._writing:
                self._to.close()
            if not self._from.closed:
                self._from.read()
                self._from.close()
            self._process.wait()
        self._said.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def _begin(self, script: bytes) -> None:
        try:
            with self._watched(_BEGIN_S):
                with contextlib.suppress(BrokenPipeError):  # why it is gone is what the answer tells
                    self._to.write(script)
                    self._to.flush()
                self._answer()
        except JobFailed as failure:
            self.close()
            raise NotAvailable(f"{self._address} cannot be used: {failure.what}", failure.do) from failure
        except BaseException:
            self._process.kill()
            self.close()
            raise
        self._is_open = True
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_S):
            with contextlib.suppress(OSError, ValueError), self._writing:
                self._to.write(b"\n")
                self._to.flush()

    def _send(self, request: Any, content: IO[bytes] | None = None) -> None:
        with contextlib.suppress(OSError, ValueError), self._writing:
            self._to.write(json.dumps(request).encode() + b"\n")
            if content is not None:
                shutil.copyfileobj(content, self._to, 1 << 20)
            self._to.flush()

    def _answer(self) -> Any:
        while not self._lost and (line := self._from.readline()):
            if line.startswith(_NO):
                why = line.removeprefix(_NO).decode(errors="replace").strip()
                do = f"Install them there, or name a Python that has them with --python; {self._advice}"
                raise JobFailed("device", f"{why}.", do)
            if line.startswith(_MARK):  # all else is a greeting of its shell
                answer = json.loads(line.removeprefix(_MARK))
                if "refused" in answer:
                    raise JobFailed("device", f"{self._address} says: {answer['refused']}.", f"Mend it; {self._advice}")
                return answer["result"]
        raise self._broken()

    def _broken(self) -> JobFailed:
        if not self._lost:
            self._lost = self._why_it_ended()
        return JobFailed("lost", f"{self._lost}.", f"Look at the machine and its network; {self._advice}")

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        if self._ended_by:
            return self._ended_by
        last = last_words.of(self._said)
        if self._address.reach and code == _OF_SSH:
            return f"{'the connection broke' if self._is_open else 'ssh did not get through'}{last}"
        return f"what runs on {self._address} broke off with code {code}{last}"

    @property
    def _advice(self) -> str:
        return f"`nnx doctor --host {self._address.host}` looks closer."

    @contextlib.contextmanager
    def _watched(self, limit_s: float) -> Iterator[None]:
        """End the connection when the block takes longer."""

        def end() -> None:
            self._ended_by = self._ended_by or f"{self._address} was not heard for {limit_s:.0f} s"
            self._process.kill()

        timer = threading.Timer(limit_s, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@cache
def text_of(name: str) -> str:
    """What is sent to run there."""
    return (resources.files("toolchain.hosts") / name).read_text(encoding="utf-8")


def script_of(name: str, **given: str) -> bytes:
    """A file of ours for the sh there, behind the variables that it wants."""
    return "\n".join([*(f"{each}={shlex.quote(value)}" for each, value in given.items()), text_of(name)]).encode()


def command_to(address: Address, script: bytes, *, asks: bool) -> list[str]:
    """What starts an sh there that obeys ``script``, which is to be sent to it first.

    The login shell, whichever it is, sees no more than ``obey``; what that reads is whole or does nothing.
    """
    obey = f'eval "$(head -c {len(script)})"'
    if not address.reach:
        return ["sh", "-c", obey]
    first, *rest = address.reach
    return [first, *_OPTIONS, *(() if asks else ("-o", "BatchMode=yes")), *rest, f"exec sh -c '{obey}'"]
