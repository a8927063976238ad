"""Facts about this machine: processor, instruction sets, memory, GPU, library versions."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_SHOWN_ISA = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
_LIBRARIES = (
    "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "numpy", "scikit-learn",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a figure was measured. ``cores`` are those this process may use."""

    system: str
    architecture: str
    processor: str
    cores: int
    memory_bytes: int
    isa: tuple[str, ...]
    gpu: str | None
    python: str
    libraries: dict[str, str]

    def __str__(self) -> str:
        isa = f" with {', '.join(self.isa)}" if self.isa else ""
        gpu = self.gpu or "no CUDA device"
        return f"{self.processor}, {self.cores} cores{isa}, {self.memory_bytes / 2**30:.0f} GiB; {gpu}; {self.system}"


def describe() -> Machine:
    """Read the facts; takes a few milliseconds and loads neither torch nor onnxruntime."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        processor=_processor(),
        cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        isa=tuple(flag for flag in _SHOWN_ISA if flag in isa_flags()),
        gpu=_gpu(),
        python=platform.python_version(),
        libraries=library_versions(),
    )


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def isa_flags() -> frozenset[str]:
    """The processor's feature flags as Linux names them; empty where they cannot be read."""
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def busy_share(seconds: float = 0.2) -> float:
    """The share of processor time, 0 to 1, that all processes used in the next ``seconds``; 0 where it is not known."""
    before = _processor_times()
    time.sleep(seconds)
    after = _processor_times()
    total = sum(after) - sum(before)
    idle = sum(after[3:5]) - sum(before[3:5])  # idle, and waiting for a disk
    return 1 - idle / total if total else 0.0


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & isa_flags())


def library_versions() -> dict[str, str]:
    """The versions of the libraries that a file or a figure depends on, ``-`` for one that is not installed."""
    found = dict.fromkeys(_LIBRARIES, "-")
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _processor_times() -> list[int]:
    """user, nice, system, idle, iowait, ... of /proc/stat; steal counts as used."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return []
    return [int(field) for field in first.split()[1:9]]


def _processor() -> str:
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _gpu() -> str | None:
    """The first NVIDIA device's name and driver, from nvidia-smi."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.splitlines()
    return lines[0].replace(", ", ", driver ") if lines else None
