"""Files that are whole or absent: written beside their final name, flushed to disk, then renamed."""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_LEFTOVER = re.compile(r"\..*\.nnx-(?P<writer>\d+)-[0-9a-f]{16}\.partial", re.DOTALL)
_SHOWN_OF_NAME = 40  # a name that just fits the file system leaves no room for more


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """Yield a new, empty file in ``final``'s folder that becomes ``final`` when the block succeeds.

    The block writes to it by its name, which nobody can guess: ``.NAME.nnx-PROCESS-RANDOM.partial``. The rename is
    atomic: a reader, or the next run after a kill at any moment, sees the old file or the new one, which takes over the
    old one's mode. When the block raises, the temporary file is removed, with the folders that were
    made for it, and ``final`` stays as it was.
    """
    missing = [folder for folder in (final.parent, *final.parent.parents) if not folder.exists()]
    final.parent.mkdir(parents=True, exist_ok=True)
    mark = f"nnx-{os.getpid()}-{secrets.token_hex(8)}"
    temporary = final.with_name(f".{final.name[:_SHOWN_OF_NAME]}.{mark}.partial")
    mode = _mode_of(final)
    # our user can write to it whatever the old file's mode, and nobody reads who could not read that
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(temporary, flags, 0o666 if mode is None else mode | stat.S_IWUSR))
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(final)
        _flush_names(final.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
        with suppress(OSError):  # not empty, when the block succeeded
            for folder in missing:
                folder.rmdir()


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
    """Delete what :func:`staged` left in ``folder`` when a process, gone by now, was killed inside its block.

    Only files by our own name go; one whose process number belongs to a process that runs, be it another, stays.
    """
    for partial in folder.glob(".*.partial"):
        ours = _LEFTOVER.fullmatch(partial.name)
        if ours and not _is_alive(int(ours["writer"])):
            partial.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks without disturbing
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
