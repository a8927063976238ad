"""One command at a time works in an artifacts folder; a second one is told who does."""

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from exporters import file_lock
from toolchain.errors import NotAvailable

NAME = ".nnx.lock"
_MOST_READ = 10_000


@contextlib.contextmanager
def held(folder: Path, command: Sequence[str]) -> Iterator[None]:
    """Hold ``folder`` for ``command`` in this block; NotAvailable, with the holder, where another process does.

    The lock is a file that is there as long as it is held, and means nothing when a killed process has left it.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = _taken(folder)
    try:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        os.ftruncate(handle, 0)
        holder = {"process": os.getpid(), "command": shlex.join(command) or "a Python program", "since": since}
        os.write(handle, json.dumps(holder).encode())
        yield
    finally:
        (folder / NAME).unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):  # not empty, when anything was made
            for each in missing:
                each.rmdir()


def _taken(folder: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        handle = os.open(folder / NAME, flags, 0o644)
        taken = file_lock.take(handle)
        if taken is not file_lock.HELD and file_lock.same_file(handle, folder / NAME):
            return handle
        said = os.read(handle, _MOST_READ)
        os.close(handle)
        if taken is file_lock.HELD:
            raise NotAvailable(
                f"{folder} is in use by {_holder(said)}.",
                "Wait until it has ended, or choose another folder with --out.",
            )


def _holder(said: bytes) -> str:
    try:
        known = json.loads(said)
        return f"process {known['process']}, `{known['command']}`, since {known['since']}"
    except (ValueError, TypeError, KeyError):  # it has not said so yet
        return "another nnx"
