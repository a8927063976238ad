"""Reading what a user names: files alone, for a pipe never ends and a device is no data."""

import os
import stat
from pathlib import Path

from toolchain import memory_budget
from toolchain.errors import BadUsage


def read_bytes(path: Path) -> bytes:
    """What the file holds.

    BadUsage for what is neither a file nor a folder, and for more than the memory budget; OSError as any reader's.
    """
    # without waiting for somebody to write to a pipe
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise BadUsage(f"{path} is a pipe or a device, not a file.", "Name a file.")
        most = memory_budget.BYTES.get()
        if found.st_size > most:
            raise BadUsage(f"{path} has {found.st_size / 1e9:.1f} GB.", f"Such a file has at most {most / 1e9:g} GB.")
        return file.read(most + 1)
