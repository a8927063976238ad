"""The control groups that this process is in, by which Linux and containers grant it processor time and memory."""

import contextlib
from pathlib import Path

PROC, SYS = Path("/proc"), Path("/sys")


def folders(controller: str, proc: Path = PROC, sys: Path = SYS) -> list[Path]:
    """Of the ``controller``, this process's group and each above it, in version 2 and 1; empty where there are none.

    Each of them grants, and the least counts. Inside a container the path may be the host's: such folders are not
    there, and what :func:`text` reads in them is empty.
    """
    found: list[Path] = []
    for line in text(proc / "self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        top = sys / "fs/cgroup" if number == "0" else sys / "fs/cgroup" / controller
        own = top / path.lstrip("/")
        found += [group for group in (own, *own.parents) if group.is_relative_to(top)]
    return found


def text(path: Path) -> str:
    """A small file's text; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""
