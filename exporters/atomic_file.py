"""Files that are whole or absent: written beside their final name, flushed to disk, then renamed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK_BYTES = 1 << 20


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """Yield a temporary path in ``final``'s folder that becomes ``final`` when the block succeeds.

    The rename is atomic: a reader, or the next run after a kill at any moment, sees the old file or the new one.
    When the block raises, the temporary file is removed, with folders that were made for it, and ``final`` stays as it
    was.
    """
    missing = [folder for folder in (final.parent, *final.parent.parents) if not folder.exists()]
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(final)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
        with suppress(OSError):  # not empty, when the block succeeded
            for folder in missing:
                folder.rmdir()


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by a file that holds ``text``."""
    with staged(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Delete what :func:`staged` left in ``folder`` when a process, gone by now, was killed inside its block."""
    for partial in folder.glob(".*.partial"):
        writer = partial.name.split(".")[-2]
        if not (writer.isdigit() and _is_alive(int(writer))):
            partial.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks without disturbing
    except ProcessLookupError:
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
