"""A limit on this process's memory: asking for more than there is fails here, instead of the kernel killing somebody.

The limit is on what the process may write to (RLIMIT_DATA), whether it has written to it yet or not. Linux alone.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from exporters.control_groups import PROC, SYS, text
from exporters.errors import causes
from toolchain.machine.conditions import free_memory_bytes

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_LARGEST_MESSAGE = 2**31
_given: tuple[int, int] | None = None
"""The limits that the process was started with, while it has one of ours."""


def bytes_there_are(proc: Path = PROC, sys: Path = SYS) -> int | None:
    """What this process may hold in all: what it holds, what is free, and swap; None where that is not known.

    No more than the limit that it has already.
    """
    free, own = free_memory_bytes(proc, sys), _kilobytes("VmData", proc / "self/status")
    if resource is None or free is None or own is None:
        return None
    there_are = free + 1024 * (own + (_kilobytes("SwapFree", proc / "meminfo") or 0))
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return there_are if soft == resource.RLIM_INFINITY else min(soft, there_are)


def _kilobytes(name: str, file: Path) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB", text(file), re.MULTILINE)
    return None if found is None else int(found[1])


def set_now() -> None:
    """Take the limit, for good."""
    global _given
    if (there_are := bytes_there_are()) is not None:
        _given = _given or resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (there_are, resource.getrlimit(resource.RLIMIT_DATA)[1]))


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Have the limit in this block: it may ask for what there is when it begins.

    Raises MemoryError for what protobuf did not get to write a message: it says that it failed, and no more.
    """
    global _given
    before = None if resource is None else resource.getrlimit(resource.RLIMIT_DATA)
    given = _given
    set_now()
    try:
        yield
    except Exception as error:
        if _is_full() and any(type(each).__name__ == "EncodeError" for each in (error, *causes(error))):
            raise MemoryError("protobuf got none to write a message") from error
        raise
    finally:
        if before is not None:
            resource.setrlimit(resource.RLIMIT_DATA, before)
        _given = given


@contextlib.contextmanager
def lifted() -> Iterator[None]:
    """In this block this process has what it was started with: what it starts there inherits that."""
    if _given is None:
        yield
        return
    ours = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, _given)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, ours)


def _is_full() -> bool:
    """Whether less is left than the largest message takes."""
    own = _kilobytes("VmData", PROC / "self/status")
    if resource is None or own is None:
        return False
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return bool(limit != resource.RLIM_INFINITY and limit - 1024 * own < _LARGEST_MESSAGE)


def lift_from(child: int) -> None:
    """Give a child process what this one was started with: what it runs may reserve much more than it uses."""
    if _given is not None and hasattr(resource, "prlimit"):
        with contextlib.suppress(OSError):  # it has ended
            resource.prlimit(child, resource.RLIMIT_DATA, _given)
