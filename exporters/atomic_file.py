"""Files that are whole or absent: written beside their final name, flushed to disk, then renamed."""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exporters import file_lock

_CHUNK_BYTES = 1 << 20
_LEFTOVER = re.compile(r"\..*\.nnx-\d+-[0-9a-f]{16}\.partial", re.DOTALL)
_IN_TEXT = re.compile(r"\.([^\s/\\]+)\.nnx-\d+-[0-9a-f]{16}\.partial")
_SHOWN_OF_NAME = 40  # a name that just fits the file system leaves no room for more
_locks: dict[Path, int] = {}
"""Our temporary files, and the descriptors by whose locks others see that their writer lives."""


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """Yield a new, empty file in ``final``'s folder that becomes ``final`` when the block succeeds.

    The block writes to it by its name, which nobody can guess: ``.NAME.nnx-PROCESS-RANDOM.partial``. The rename is
    atomic: a reader, or the next run after a kill at any moment, sees the old file or the new one, which takes over the
    old one's mode. When the block raises, the temporary file is removed, with the folders that were
    made for it, and ``final`` stays as it was. A symbolic link stays one, and what it leads to is replaced; OSError for
    a device, a pipe or a folder of that name.
    """
    final = _led_to(final)
    missing = [folder for folder in (final.parent, *final.parent.parents) if not folder.exists()]
    final.parent.mkdir(parents=True, exist_ok=True)
    mode = _mode_of(final)
    # our user can write to it whatever the old file's mode, and nobody reads who could not read that
    temporary = _new_beside(final, 0o666 if mode is None else mode | stat.S_IWUSR)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(final)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        with suppress(OSError):  # where something lies in them by now
            for folder in missing:
                folder.rmdir()
        raise
    else:
        if temporary in _locks and _LEFTOVER.fullmatch(final.name):  # what is staged in turn stays locked: unlock()
            unlock(final)
            _locks[final] = _locks.pop(temporary)
        _flush_names(final.parent)
    finally:
        unlock(temporary)  # until here nobody takes the file for a leftover


def _led_to(final: Path) -> Path:
    """Where a file of that name is written: itself, or what a link of that name leads to."""
    try:
        found = final.stat()
    except FileNotFoundError:
        return Path(os.path.realpath(final)) if final.is_symlink() else final
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(final))
    if not stat.S_ISREG(found.st_mode):
        raise FileExistsError(errno.EEXIST, "It is no file, but a device or a pipe", str(final))
    return Path(os.path.realpath(final)) if final.is_symlink() else final


def _new_beside(final: Path, mode: int) -> Path:
    """A new file in the folder of ``final``, locked where the system can."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    while True:
        mark = f"nnx-{os.getpid()}-{secrets.token_hex(8)}"
        temporary = final.with_name(f".{final.name[:_SHOWN_OF_NAME]}.{mark}.partial")
        handle = os.open(temporary, flags, mode)
        taken = file_lock.take(handle)
        if taken is file_lock.TAKEN and file_lock.same_file(handle, temporary):
            _locks[temporary] = handle
            return temporary
        os.close(handle)
        if taken is file_lock.UNKNOWN:
            return temporary
        # else somebody took it for a leftover before it was locked


def unlock(temporary: Path) -> None:
    """From now on a temporary file by our own kind of name may be taken for a leftover."""
    if (handle := _locks.pop(temporary, None)) is not None:
        os.close(handle)


def _mode_of(path: Path) -> int | None:
    """The permission bits of a file, None where there is none."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _flush_names(folder: Path) -> None:
    """Bring a rename to the disk, where the system can: Windows opens no folder, and some file systems flush none."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by a file that holds ``text``."""
    with staged(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Delete what :func:`staged` left in ``folder`` when a process was killed inside its block.

    Only files by our own name go, and of these only such as no living process holds a lock on: a process number tells
    nothing, for another container's processes write here too.
    """
    with suppress(OSError):  # a folder that may not be read, or not be changed
        for partial in folder.glob(".*.partial"):
            if _LEFTOVER.fullmatch(partial.name):
                with suppress(OSError):  # a link, or one that may not be read
                    _remove_if_dead(partial)


def _remove_if_dead(partial: Path) -> None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(partial, flags)
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode) and file_lock.take(handle) is file_lock.TAKEN:
            partial.unlink(missing_ok=True)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def with_final_names(text: str) -> str:
    """``text`` that speaks of files by the names that they were to get."""
    return _IN_TEXT.sub(r"\1", text)
