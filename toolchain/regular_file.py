"""Reading what a user names: files alone, for a pipe never ends and a device is no data."""

import contextlib
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
