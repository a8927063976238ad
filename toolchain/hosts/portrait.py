"""What the machine is that it runs on, and how it does: asked line by line, as JSON.

Sent as text and run by a Python of another machine, 3.8 or later; onnxruntime and numpy are asked for their versions.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

ELF_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 258: "loongarch64"}
ARM_PARTS = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
    0xD49: "Neoverse-N2", 0xD4F: "Neoverse-V2",
}  # fmt: skip
"""As the kernel numbers Arm's own."""
LOOK_S = 0.2


def told(path: Path) -> str:
    """What a file of the kernel's says; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """As :class:`toolchain.machine.Machine`, and more; ``isa`` is all flags."""
    really, cpuinfo = emulated_on(), told(root / "proc/cpuinfo")
    import numpy
    import onnxruntime

    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", cpuinfo, re.M)
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": processor(cpuinfo, told(root / "proc/device-tree/model")),
        "cores": cores(root),
        "allowed": allowed(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "isa": flags[1].split() if flags and not really else [],
        "python": platform.python_version(),
        "providers": list(onnxruntime.get_available_providers()),
        "libraries": {"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__},
        "emulated": f"{platform.machine()} on {really}" if really else "",
    }


def emulated_on() -> str:
    """The kind of processor that really runs this, where Python was made for another one; else nothing.

    QEMU shows a program its own file as its own /proc/self/exe; of another process, which is the same program, it shows
    what the kernel does: QEMU. What /proc/cpuinfo says is no sign: QEMU fakes it since 8.2, and a 32-bit Python on a
    64-bit kernel is not emulated.
    """
    kinds = [of_a_fork(), elf_machine(Path("/proc/self/exe")), elf_machine(Path(sys.executable))]
    found = [kind for kind in kinds if kind is not None]
    return ELF_MACHINES.get(found[0], "another processor") if len(set(found)) > 1 else ""


def of_a_fork() -> int | None:
    """The kind of program that the kernel says another process of this one is."""
    if not hasattr(os, "fork"):
        return None
    child = os.fork()
    if not child:
        time.sleep(5)  # at most: whoever is killed before the next line leaves nothing
        os._exit(0)
    try:
        return elf_machine(Path(f"/proc/{child}/exe"))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def elf_machine(path: Path) -> int | None:
    """Of the header of an executable; None for what is none."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return None
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    return int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")


def processor(cpuinfo: str, board: str) -> str:
    """The board's name, where it has one, and the processor's."""
    names = re.findall(r"^model name\s*: (.*)$", cpuinfo, re.M)[:1]
    if not names:
        parts = {int(part, 16) for part in re.findall(r"^CPU part\s*: (0x[0-9a-f]+)$", cpuinfo, re.M)}
        names = sorted(ARM_PARTS[part] for part in parts if part in ARM_PARTS)
    return ", ".join(filter(None, [board, *names])) or platform.processor() or platform.machine()


def allowed() -> list[int]:
    """The processors that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cores(root: Path) -> int:
    """Physical ones that may be used, and no more than a control group grants the time of."""
    places = [root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list" for number in allowed()]
    count = len({told(place) or str(place) for place in places}) or os.cpu_count() or 1
    quota = told(root / "sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        count = min(count, max(1, int(quota[0]) // int(quota[1])))
    return count


def look(root: Path = Path("/")) -> dict[str, Any]:
    """What bends figures now, as :class:`toolchain.bench.hosts.Look` has it."""
    before = processor_times(root)
    time.sleep(LOOK_S)
    after = processor_times(root)
    spent = [late - early for early, late in zip(before, after)]  # noqa: B905 - strict= came with 3.10
    degrees = [told(place / "temp") for place in folders(root / "sys/class/thermal", r"thermal_zone\d+")]
    heat = [int(each) / 1000 for each in degrees if re.fullmatch(r"-?\d+", each)]
    throttled = told(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    governors = [
        told(place / "cpufreq/scaling_governor") for place in folders(root / "sys/devices/system/cpu", r"cpu\d+")
    ]
    return {
        "busy": 1 - sum(spent[3:5]) / sum(spent) if sum(spent) else 0.0,
        "times": after,
        "temperature_c": max(heat) if heat else None,
        "governors": sorted(set(filter(None, governors))),
        "throttled": throttled if re.fullmatch(r"(0x)?[0-9a-f]+", throttled) else "",
    }


def processor_times(root: Path) -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal of /proc/stat."""
    return [int(each) for each in told(root / "proc/stat").partition("\n")[0].split()[1:9]]


def folders(place: Path, name: str) -> list[Path]:
    """Those in ``place`` whose name fits."""
    try:
        return [each for each in place.iterdir() if re.fullmatch(name, each.name)]
    except OSError:
        return []


def main() -> None:
    for line in sys.stdin:
        operation = json.loads(line)["op"]
        sys.stdout.write(json.dumps({"result": describe() if operation == "describe" else look()}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
