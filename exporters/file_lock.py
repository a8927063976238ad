"""Locks that end with their holder, however it ends, and that hold across containers: ``flock``."""

import os
from enum import Enum


class Lock(Enum):
    """What came of trying to take one."""

    TAKEN = "taken"
    HELD = "held by another"
    UNKNOWN = "this system or file system has none"


TAKEN, HELD, UNKNOWN = Lock.TAKEN, Lock.HELD, Lock.UNKNOWN


def take(descriptor: int) -> Lock:
    """Lock an open file, or folder, for as long as ``descriptor`` is open; never waits."""
    try:
        import fcntl
    except ImportError:  # Windows
        return UNKNOWN
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return HELD
    except OSError:  # some network file systems
        return UNKNOWN
    return TAKEN


def same_file(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` still names the open file: it may have been removed before the lock was taken."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116 - of either kind of path
    except FileNotFoundError:
        return False
