"""How many processors this process may use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from exporters import control_groups
from exporters.control_groups import PROC, SYS, text

_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def limited_to(cores: int) -> Iterator[None]:
    """In this block so many cores are used at most: others of the machine have work too."""
    before = _most.set(cores)
    try:
        yield
    finally:
        _most.reset(before)


def usable_cores(proc: Path = PROC, sys: Path = SYS) -> int:
    """The number of cores that this process may run on, and has the time of: a quota stops threads in mid-run."""
    allowed, quota = len(allowed_processors()), processor_quota(proc, sys)
    return max(1, min(allowed if quota is None else int(quota), allowed, _most.get() or allowed))


def allowed_processors() -> tuple[int, ...]:
    """The logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def processor_quota(proc: Path = PROC, sys: Path = SYS) -> float | None:
    """How many processors' worth of time the control groups of this process grant; None where there is no limit."""
    grants = []
    for group in control_groups.folders("cpu", proc, sys):
        quota, _, period = text(group / "cpu.max").partition(" ")  # version 2
        quota = quota or text(group / "cpu.cfs_quota_us")
        if quota.isdecimal():  # no limit is "max", or -1 in version 1
            grants.append(int(quota) / int(period or text(group / "cpu.cfs_period_us")))
    return min(grants, default=None)
