"""Facts about this machine: processor, instruction sets, memory, GPU, library versions."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from exporters.processors import usable_cores

SHOWN_ISA = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Instruction sets that matter for speed."""
_LIBRARIES = (
    "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "numpy", "scikit-learn",
)  # fmt: skip
_WHEN_INSTALLED = ("nnx-toolchain", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""The flags of processors that multiply bfloat16 in hardware."""


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


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One of NVIDIA's devices."""

    name: str
    driver: str
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name}, driver {self.driver}"


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """NVIDIA's devices as nvidia-smi lists them; ``problem`` is what it said when it could not."""

    devices: tuple[Gpu, ...] = ()
    problem: str = ""


def describe() -> Machine:
    """Read the facts; takes a few milliseconds and loads neither torch nor onnxruntime."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        processor=_processor(),
        cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        isa=tuple(flag for flag in SHOWN_ISA if flag in isa_flags()),
        gpu=next((str(device) for device in gpus().devices), None),
        python=platform.python_version(),
        libraries=library_versions(),
    )


def isa_flags() -> frozenset[str]:
    """The processor's feature flags as Linux names them; empty where they cannot be read."""
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return not isa_flags().isdisjoint(BF16_FLAGS)


def library_versions() -> dict[str, str]:
    """The versions of the libraries that a file or a figure depends on, ``-`` for one that is not installed.

    nnx itself and the rarer builds of onnxruntime are there only when they are installed.
    """
    found = dict.fromkeys(_LIBRARIES, "-")
    for name in (*_LIBRARIES, *_WHEN_INSTALLED):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def gpus() -> Gpus:
    """Ask nvidia-smi, once: it can take a second; without it there are none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return Gpus()
    query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return Gpus(problem=f"nvidia-smi did not answer: {error}")
    if answer.returncode:  # it says why on stdout
        return Gpus(problem=" ".join((answer.stdout or answer.stderr).split()) or "nvidia-smi failed")
    return Gpus(devices=tuple(_gpu(line) for line in answer.stdout.splitlines() if line.count(", ") >= 2))


def _gpu(line: str) -> Gpu:
    """One line of nvidia-smi's CSV; memory is in MiB, or ``[N/A]`` where it is the machine's own."""
    name, driver, mebibytes = line.rsplit(", ", 2)
    return Gpu(name=name, driver=driver, memory_bytes=int(mebibytes) * 2**20 if mebibytes.isdecimal() else 0)


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


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
