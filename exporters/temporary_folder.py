"""A folder for all that a command leaves in the system's folder for temporary files, gone with it at the latest."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from exporters import file_lock

_PREFIX = "nnx-"
_MARK = ".nnx-temporary"
_SAID = b"nnx made this folder. Once nobody holds a lock on this file, the next nnx removes it.\n"


@contextlib.contextmanager
def own() -> Iterator[Path | None]:
    """In this block temporary files, children's too, go into a new folder, which is removed at its end.

    Folders go first that a killed process left: of our user, with our mark inside, which no living process locks.
    Yields None, and changes nothing, where no folder can be made: who needs a temporary file then says so.
    """
    before, named = tempfile.tempdir, os.environ.get("TMPDIR")
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(_made())
        except OSError:
            yield None
            return
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before
            os.environ.pop("TMPDIR")
            if named is not None:
                os.environ["TMPDIR"] = named


@contextlib.contextmanager
def _made() -> Iterator[Path]:
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        handle = os.open(folder / _MARK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            file_lock.take(handle)
            os.write(handle, _SAID)
            yield folder
        finally:
            os.close(handle)
    finally:
        _remove(folder)


def remove_leftovers(parent: Path) -> None:
    """Delete the folders that :func:`own` made in ``parent`` and that a killed process left."""
    if not hasattr(os, "getuid"):  # Windows, which has no such locks either
        return
    with contextlib.suppress(OSError):
        for mark in parent.glob(f"{_PREFIX}*/{_MARK}"):
            with contextlib.suppress(OSError):
                _remove_if_dead(mark)


def _remove_if_dead(mark: Path) -> None:
    folder = mark.parent.lstat()
    if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.getuid():
        return
    handle = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        ours = stat.S_ISREG(os.fstat(handle).st_mode) and os.read(handle, len(_SAID)) == _SAID
        if ours and file_lock.take(handle) is file_lock.TAKEN:
            _remove(mark.parent)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Twice where need be: a disk that refuses once may not the next time, and what stays is the next run's."""
    for _ in range(2):
        with contextlib.suppress(OSError):
            shutil.rmtree(folder, ignore_errors=True)
