"""Reading what a user names: files alone, for a pipe never ends and a device is no data."""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from toolchain import memory_budget
from toolchain.errors import BadUsage


@contextlib.contextmanager
def opened(path: Path, *, through_links: bool = True) -> Iterator[BufferedReader]:
    """The file, open for reading; without ``through_links`` a link of that name is an OSError.

    BadUsage for what is neither a file nor a folder, OSError as any opener's.
    """
    # without waiting for somebody to write to a pipe
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags if through_links else flags | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BadUsage(f"{path} is a pipe or a device, not a file.", "Name a file.")
        yield file


def read_bytes(path: Path) -> bytes:
    """What the file holds.

    BadUsage for what is neither a file nor a folder, and for more than the memory budget; OSError as any reader's.
    """
    with opened(path) as file:
        most, size = memory_budget.BYTES.get(), os.fstat(file.fileno()).st_size
        if size > most:
            raise BadUsage(f"{path} has {size / 1e9:.1f} GB.", f"Such a file has at most {most / 1e9:g} GB.")
        return file.read(most + 1)


class HeaderTooLarge(Exception):
    """An archive wants more read in one piece than any header of an honest one has."""


class Sipped(io.FileIO):
    """An archive's file, of which no more than ``most`` bytes are read in one piece: what a header says is a guess.

    Raises HeaderTooLarge, which no reader of archives takes for one of its own errors.
    """

    def __init__(self, handle: int, *, most: int = 4 * 2**20) -> None:
        super().__init__(handle, closefd=False)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if min(left, left if size is None or size < 0 else size) > self._most:
            raise HeaderTooLarge
        return super().read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == 0 and not 0 <= offset < 2**63:  # an OSError elsewhere, as if the disk had failed
            raise ValueError("a place that no file has")
        return super().seek(offset, whence)
