"""A folder that is whole or absent: made beside its final name, flushed to disk, then renamed."""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from exporters import file_lock

_LEFTOVER = re.compile(r"\..*\.nnx-\d+-[0-9a-f]{16}\.partial", re.DOTALL)
_SHOWN_OF_NAME = 40


@contextlib.contextmanager
def staged(final: Path) -> Iterator[Path]:
    """Yield a new folder beside ``final`` that takes its place when the block succeeds; else it is gone.

    What stood there before is renamed to ``.NAME.former`` and removed last; after a kill in between, the next run gives
    it its name back. Folders of killed runs are removed, which no living process locks.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    former = final.with_name(f".{final.name}.former")
    _remove_leftovers(final.parent)
    _restore(former, final)
    temporary, handle = _new_beside(final)
    try:
        yield temporary
        _flush(temporary)
        if final.exists():
            final.rename(former)
            try:
                temporary.rename(final)
            except OSError:
                former.rename(final)
                raise
            shutil.rmtree(former)
        else:
            temporary.rename(final)
        _flush_folder(final.parent)
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)


def _restore(former: Path, final: Path) -> None:
    """What a run that was killed left of the folder before it."""
    if former.is_dir() and not final.exists():
        former.rename(final)
    shutil.rmtree(former, ignore_errors=True)


def _new_beside(final: Path) -> tuple[Path, int]:
    temporary = _name_beside(final)
    temporary.mkdir()
    handle = os.open(temporary, os.O_RDONLY)
    file_lock.take(handle)
    return temporary, handle


def _name_beside(final: Path) -> Path:
    mark = f"nnx-{os.getpid()}-{secrets.token_hex(8)}"
    return final.with_name(f".{final.name[:_SHOWN_OF_NAME]}.{mark}.partial")


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(".*.partial"):
        if _LEFTOVER.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            with contextlib.suppress(OSError):
                handle = os.open(folder, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
                try:
                    if file_lock.take(handle) is file_lock.TAKEN:
                        shutil.rmtree(folder)
                finally:
                    os.close(handle)


def _flush(folder: Path) -> None:
    """Bring all that is in it to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with Path(place, name).open("rb") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(place))


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems flush none
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
