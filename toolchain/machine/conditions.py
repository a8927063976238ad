"""What this process may use of the machine, and what else bends a measurement: clock, memory nodes, neighbours."""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from exporters import control_groups
from exporters.control_groups import PROC, SYS, text
from exporters.processors import allowed_processors, processor_quota

_MOSTPROCESSORS = 1 << 16  # eight times what Linux can be built for
_UNLIMITED_BYTES = 1 << 60  # version 1 of control groups writes "no limit" as nearly 2**63


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What Linux tells; elsewhere most of it is empty or None, which means "not known".

    ``processors`` are the logical ones in the machine, ``allowed`` those this process may run on, ``cores`` the
    physical ones behind them. ``quota`` is how many processors' worth of time its control group grants. ``boost``
    says whether the clock may go over its nominal one; ``memory_nodes`` lists, for each node that ``allowed`` touches,
    its processors. ``busy`` is the share of processor time, 0 to 1, that everyone used just now, and ``stolen`` the
    share of the time wanted since the start of the machine that its hypervisor gave to others.
    """

    processors: int
    allowed: tuple[int, ...]
    cores: int | None = None
    quota: float | None = None
    free_memory_bytes: int | None = None
    governors: tuple[str, ...] = ()
    boost: bool | None = None
    memory_nodes: tuple[str, ...] = ()
    busy: float = 0.0
    stolen: float = 0.0


def read(seconds: float = 0.2) -> Conditions:
    """Look at everything; waits ``seconds`` to see how busy the machine is."""
    allowed = allowed_processors()
    return Conditions(
        processors=os.cpu_count() or 1,
        allowed=allowed,
        cores=_cores(allowed),
        quota=processor_quota(),
        free_memory_bytes=free_memory_bytes(),
        governors=_governors(allowed),
        boost=_boost(),
        memory_nodes=_memory_nodes(allowed),
        busy=busy_share(seconds),
        stolen=stolen_share(processor_times()),
    )


def free_memory_bytes(proc: Path = PROC, sys: Path = SYS) -> int | None:
    """What can still be had of the machine's memory and of what each control group of this process grants."""
    available = re.search(r"^MemAvailable:\s*(\d+) kB", text(proc / "meminfo"), re.MULTILINE)
    if available is None:
        return None
    granted = [_left_of(group) for group in control_groups.folders("memory", proc, sys)]
    return min([int(available[1]) * 1024, *(left for left in granted if left is not None)])


def _left_of(group: Path) -> int | None:
    """A control group's limit less what it uses; pages of files that nobody reads now do not count: they are given up.

    None where there is no limit. In version 1 the names with ``total`` include the groups below, as the usage does.
    """
    limit = text(group / "memory.max") or text(group / "memory.limit_in_bytes")
    if not limit.isdecimal() or int(limit) >= _UNLIMITED_BYTES:
        return None
    used = int(text(group / "memory.current") or text(group / "memory.usage_in_bytes") or 0)
    kinds = dict(line.split() for line in text(group / "memory.stat").splitlines())
    given_up = int(kinds.get("total_inactive_file") or kinds.get("inactive_file") or 0)
    return max(0, int(limit) - max(0, used - given_up))


def busy_share(seconds: float = 0.2) -> float:
    """The share of processor time, 0 to 1, that all processes used in the next ``seconds``; 0 where it is not known."""
    before = processor_times()
    time.sleep(seconds)
    after = processor_times()
    total = sum(after) - sum(before)
    idle = sum(after[3:5]) - sum(before[3:5])  # idle, and waiting for a disk
    return 1 - idle / total if total else 0.0


def processor_times() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal of /proc/stat; steal counts as used."""
    return [int(field) for field in text(PROC / "stat").partition("\n")[0].split()[1:9]]


def stolen_share(times: list[int]) -> float:
    """Steal over all time that was not idle, of the fields of /proc/stat."""
    wanted = sum(times) - sum(times[3:5])
    return times[7] / wanted if len(times) > 7 and wanted else 0.0


def processors_in(cpulist: str) -> set[int]:
    """The numbers in a list as Linux writes it: ``0-3,8``; raise ValueError for what is none, or not of this world."""
    found: set[int] = set()
    for part in filter(None, cpulist.strip().split(",")):
        start, _, end = part.partition("-")
        first, last = int(start), int(end or start)
        if not first <= last < _MOSTPROCESSORS:
            raise ValueError(f"'{part}' is no range of processors")
        found |= set(range(first, last + 1))
    return found


def _cores(processors: Iterable[int]) -> int | None:
    siblings = {_of_processor(number, "topology/thread_siblings_list") for number in processors}
    return len(siblings) if "" not in siblings else None


def _governors(processors: Iterable[int]) -> tuple[str, ...]:
    return tuple(sorted({_of_processor(number, "cpufreq/scaling_governor") for number in processors} - {""}))


def _boost() -> bool | None:
    folder = SYS / "devices/system/cpu"
    if off := text(folder / "intel_pstate/no_turbo"):
        return off == "0"
    on = text(folder / "cpufreq/boost")
    return on == "1" if on else None


def _memory_nodes(processors: Iterable[int]) -> tuple[str, ...]:
    lists = sorted(text(path) for path in (SYS / "devices/system/node").glob("node*/cpulist"))
    return tuple(each for each in lists if processors_in(each) & set(processors))


def _of_processor(number: int, name: str) -> str:
    return text(SYS / f"devices/system/cpu/cpu{number}" / name)
