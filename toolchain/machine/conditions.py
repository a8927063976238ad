"""What this process may use of the machine, and what else bends a measurement: clock, memory nodes, neighbours."""

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC, _SYS = Path("/proc"), Path("/sys")
_MOST_PROCESSORS = 1 << 16  # eight times what Linux can be built for
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
        free_memory_bytes=_free_memory_bytes(),
        governors=_governors(allowed),
        boost=_boost(),
        memory_nodes=_memory_nodes(allowed),
        busy=busy_share(seconds),
        stolen=stolen_share(processor_times()),
    )


def allowed_processors() -> tuple[int, ...]:
    """The logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def processor_quota(proc: Path = _PROC, sys: Path = _SYS) -> float | None:
    """How many processors' worth of time the control groups of this process grant; None where there is no limit."""
    grants = [text.split() for text in _in_control_groups("cpu", "cpu.max", proc, sys)]
    quotas = _in_control_groups("cpu", "cpu.cfs_quota_us", proc, sys)
    periods = _in_control_groups("cpu", "cpu.cfs_period_us", proc, sys)
    grants += [[quota, period] for quota, period in zip(quotas, periods, strict=False)]
    return min((int(quota) / int(period) for quota, period in grants if quota not in ("max", "-1")), default=None)


def memory_limit_bytes(proc: Path = _PROC, sys: Path = _SYS) -> int | None:
    """The memory that the control groups of this process grant; None where there is no limit."""
    names = ("memory.max", "memory.limit_in_bytes")
    grants = [text for name in names for text in _in_control_groups("memory", name, proc, sys) if text != "max"]
    return min((int(text) for text in grants if int(text) < _UNLIMITED_BYTES), default=None)


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
    return [int(field) for field in _text(_PROC / "stat").partition("\n")[0].split()[1:9]]


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
        if not first <= last < _MOST_PROCESSORS:
            raise ValueError(f"'{part}' is no range of processors")
        found |= set(range(first, last + 1))
    return found


def _in_control_groups(controller: str, name: str, proc: Path, sys: Path) -> list[str]:
    """What the file ``name`` says in this process's control group and in each above it, in version 2 and 1."""
    found = []
    for line in _text(proc / "self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        top = sys / "fs/cgroup" if number == "0" else sys / "fs/cgroup" / controller
        folder = top / path.lstrip("/")
        # inside a container the path may be the host's: the folders that are not there are passed over
        found += [_text(group / name) for group in (folder, *folder.parents) if group.is_relative_to(top)]
    return [text for text in found if text]


def _free_memory_bytes() -> int | None:
    for line in _text(_PROC / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            return min(available, memory_limit_bytes() or available)
    return None


def _cores(processors: Iterable[int]) -> int | None:
    siblings = {_of_processor(number, "topology/thread_siblings_list") for number in processors}
    return len(siblings) if "" not in siblings else None


def _governors(processors: Iterable[int]) -> tuple[str, ...]:
    return tuple(sorted({_of_processor(number, "cpufreq/scaling_governor") for number in processors} - {""}))


def _boost() -> bool | None:
    folder = _SYS / "devices/system/cpu"
    if off := _text(folder / "intel_pstate/no_turbo"):
        return off == "0"
    on = _text(folder / "cpufreq/boost")
    return on == "1" if on else None


def _memory_nodes(processors: Iterable[int]) -> tuple[str, ...]:
    lists = sorted(_text(path) for path in (_SYS / "devices/system/node").glob("node*/cpulist"))
    return tuple(each for each in lists if processors_in(each) & set(processors))


def _of_processor(number: int, name: str) -> str:
    return _text(_SYS / f"devices/system/cpu/cpu{number}" / name)


def _text(path: Path) -> str:
    """A small file's text; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""
