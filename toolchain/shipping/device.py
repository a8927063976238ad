"""A device by its address: over the system's ssh, or a folder of this machine; it takes one step after the other."""

import contextlib
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from urllib.parse import unquote

from toolchain.errors import BadUsage, NotAvailable
from toolchain.processes import last_words

_ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[^@/:]+)@)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^@/:\[\]]+)(?::(?P<port>\d{1,5}))?(?P<path>/.+)"
)
_FILE = re.compile(r"file://(?:localhost)?(?P<path>/.+)")
_OF_SSH = 255
"""With which ssh ends where it did not get through."""


class Refused(Exception):
    """A device did not do a step: why, a sentence without its end, and what it ``said`` before that."""

    def __init__(self, why: str, said: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.said = tuple(said)


class Lost(Refused):
    """It is not heard any more."""


@dataclass(frozen=True)
class Target:
    """Where packages go: ``folder``, on the machine to which the command ``reach`` leads; without one, on this."""

    address: str
    folder: str
    reach: tuple[str, ...]

    @property
    def is_remote(self) -> bool:
        return bool(self.reach)


def target(address: str) -> Target:
    """``ssh://[user@]host[:port]/folder``, ``/~/folder`` for one in the user's home, or ``file:///folder``.

    BadUsage for what is neither.
    """
    here, there = _FILE.fullmatch(address), _ADDRESS.fullmatch(address)
    found = here or there
    folder = unquote(found["path"]) if found else ""
    if found is None or not folder.isprintable() or not folder.strip("/"):
        do = (
            "Name it as ssh://pi@raspberrypi.local/home/pi/model, with /~/model for the user's home, or file:///folder."
        )
        raise BadUsage(f"'{address}' is no place to push to.", do)
    if there is None:
        return Target(address, folder, ())
    if (there["user"] or there["host"]).startswith("-"):  # ssh would take it for an option
        raise BadUsage(f"'{address}' is no place to push to.", "A name does not begin with '-'.")
    host = there["host"].strip("[]")
    login = f"{there['user']}@{host}" if there["user"] else host
    port = ("-p", there["port"]) if there["port"] else ()
    return Target(address, folder.removeprefix("/~/"), ("ssh", "-T", *port, "--", login))


class Connection:
    """A device's sh, which obeys receive.sh while the block lasts: ``ask`` it for one step after the other.

    ssh begins to get through when the object is made, and the block when it has. ``asks`` says that it may ask the user
    for a password, ``limit_s`` is for the block.
    """

    def __init__(self, target: Target, *, python: str | None, asks: bool, limit_s: float | None) -> None:
        self._target, self._ended_by = target, ""
        # the device's login shell, whichever it is, sees no more than `obey`; what that reads is whole or does nothing
        script = f"dir={shlex.quote(target.folder)} python={shlex.quote(python or '')}\n{_script()}".encode()
        obey = f'eval "$(head -c {len(script)})"'
        command = ["sh", "-c", obey]
        if target.is_remote:
            first, *rest = target.reach
            command = [first, *(() if asks else ("-o", "BatchMode=yes")), *rest, f"exec sh -c '{obey}'"]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said)
        except FileNotFoundError as error:
            self._said.close()
            raise NotAvailable(f"There is no {command[0]} on this machine.", "Install OpenSSH's client.") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._timer = threading.Timer(limit_s or 0, self._end, [f"it took longer than {limit_s or 0:g} s"])
        self._timer.daemon = True
        self._is_timed = limit_s is not None
        self._send([script])

    def ask(self, step: str, content: Iterable[bytes] = ()) -> list[str]:
        """What the device says to a step; ``content`` is what follows it. Raises Refused."""
        self.send(step, content)
        return self.answer()

    def send(self, step: str, content: Iterable[bytes] = ()) -> None:
        """A step whose answer is read later: a far device answers late, and does nothing after one that failed."""
        self._send([f"{step}\n".encode()])
        self._send(content)

    def end(self) -> None:
        """Break off, whatever goes on, from any thread: the device does not go on without us."""
        self._end("it was interrupted")

    def drop(self) -> None:
        """End one whose block was never entered."""
        self._close(at_once=True)

    def _end(self, why: str) -> None:
        self._ended_by = self._ended_by or why
        self._process.kill()

    def _send(self, content: Iterable[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has said why, or is gone: the answer tells
            for piece in content:
                self._to.write(piece)
            self._to.flush()

    def answer(self) -> list[str]:
        """What the device says to the first step whose answer was not read. Raises Refused."""
        said = list[str]()
        for line in self._from:
            text = line.decode(errors="replace").rstrip("\n")
            if text == "nnx.ok":
                return said
            if text.startswith("nnx.no "):
                raise Refused(text.removeprefix("nnx.no ").rstrip(".: ") or "a command of the device's failed", said)
            if text.startswith("nnx= "):  # all else is a greeting of its shell
                said.append(text.removeprefix("nnx= "))
        raise Lost(self._why_it_ended(), said)

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        if self._ended_by:
            return self._ended_by
        last = last_words.of(self._said)
        if self._target.is_remote and code == _OF_SSH:
            return f"ssh did not get through{last}"
        return f"it broke off with code {code}{last}"

    def __enter__(self) -> "Connection":
        if self._is_timed:
            self._timer.start()
        try:
            self.answer()  # what follows the script is sent when it is read: many a head reads too far
        except BaseException as error:
            self._close(at_once=not isinstance(error, Refused))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *ignored: object) -> None:
        self._close(at_once=kind is not None and not issubclass(kind, Refused))

    def _close(self, *, at_once: bool) -> None:
        if at_once:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        self._from.read()  # until it has tidied up
        self._process.wait()
        self._timer.cancel()
        self._from.close()
        self._said.close()


def may_ask() -> bool:
    """Whether there is somebody to ask for a password."""
    return sys.stdin is not None and sys.stdin.isatty()


@cache
def _script() -> str:
    return (resources.files("toolchain.shipping") / "receive.sh").read_text(encoding="utf-8")
