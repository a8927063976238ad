"""A folder for all that a command leaves in the system's folder for temporary files, gone with it at the latest."""

import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from exporters import file_lock

_MARK = ".nnx-temporary"
_NAME = re.compile(r"nnx-\d+-[0-9a-f]{16}\.temporary")
_given: list[tuple[str | None, Path | None]] = []
"""What TMPDIR was, and the folder that was taken, before each block that goes on."""
_SAID = b"nnx made this folder. Once nobody holds a lock on this file, the next nnx removes it.\n"


def given() -> tuple[str, Path | None]:
    """What the user's TMPDIR says, "" for nothing, and the folder that is used, None where there is none.

    Python goes on to /tmp, /var/tmp and the working folder where it cannot write into the one that is named.
    """
    named, used = _given[0] if _given else (os.environ.get("TMPDIR"), None)
    if used is None:
        with contextlib.suppress(OSError):
            used = Path(tempfile.gettempdir())
    return named or "", used


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
        _given.append((named, folder.parent))
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield folder
        finally:
            _given.pop()
            tempfile.tempdir = before
            os.environ.pop("TMPDIR")
            if named is not None:
                os.environ["TMPDIR"] = named


@contextlib.contextmanager
def _made() -> Iterator[Path]:
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    folder, handle = _new_below(parent)
    try:
        try:
            file_lock.take(handle)
            os.write(handle, _SAID)
            yield folder
        finally:
            os.close(handle)
    finally:
        _remove(folder)


def _new_below(parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor of the mark inside."""
    for last in (False, False, True):
        folder = parent / f"nnx-{os.getpid()}-{secrets.token_hex(8)}.temporary"
        folder.mkdir(mode=0o700)
        try:
            return folder, os.open(folder / _MARK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileNotFoundError:  # another run took the empty folder for a killed one's
            if last:
                raise
        except BaseException:
            _remove(folder)
            raise
    raise AssertionError("the last try returns or raises")


def remove_leftovers(parent: Path) -> None:
    """Delete the folders that :func:`own` made in ``parent`` and that a killed process left.

    By our mark inside; without one only an empty folder by our own kind of name, for a process killed before its mark.
    """
    if not hasattr(os, "getuid"):  # Windows, which has no such locks either
        return
    with contextlib.suppress(OSError):
        for folder in parent.glob("nnx-*.temporary"):
            with contextlib.suppress(OSError):
                if _NAME.fullmatch(folder.name):
                    _remove_if_dead(folder)


def _remove_if_dead(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return
    try:
        handle = os.open(folder / _MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        folder.rmdir()
        return
    try:
        ours = stat.S_ISREG(os.fstat(handle).st_mode) and os.read(handle, len(_SAID)) == _SAID
        if ours and file_lock.take(handle) is file_lock.TAKEN:
            _remove(folder)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Whatever comes in between, a signal or a disk that refuses once; what stays all the same is the next run's."""
    try:
        shutil.rmtree(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
        if not isinstance(error, OSError):
            raise
