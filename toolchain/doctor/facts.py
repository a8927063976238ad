"""What :mod:`toolchain.doctor.checks` judges: facts on machine, libraries and backends, read without importing them."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from exporters import temporary_folder
from runtimes import registry, torch_compiler
from toolchain import machine
from toolchain.machine import conditions
from toolchain.machine.conditions import Conditions
from toolchain.machine.description import Gpus, Machine
from toolchain.processes import own_packages

DISTRIBUTION = "nnx-toolchain"
_IMPORTED = (  # as in pyproject.toml, which is not installed
    "torch", "onnx", "onnx-ir", "onnxscript", "numpy", "scipy", "jsonschema", "packaging", "markupsafe", "filelock",
    "click", "rich", "safetensors",
)  # fmt: skip
_TIMEOUT_S = 60.0
_REMOTE = "azure"  # sends its inputs to a service; every wheel has it
_PACKAGE_MANAGERS = ("apt-get", "dnf", "apk", "pacman", "xcode-select")
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI's vendor, and class of displays and accelerators that draw


@dataclass(frozen=True)
class Need:
    """A distribution that nnx needs in at least this version (empty: any); with ``extra`` only for what that brings."""

    name: str
    at_least: str
    extra: str | None = None

    def __str__(self) -> str:
        return f"{self.name}>={self.at_least}" if self.at_least else self.name


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of using a backend: whether it ``runs``, else ``why`` not, and what to ``do`` if it knows.

    ``libraries`` are those of CUDA that it wants, with the version each tells ("" if none), None for one that does not
    load; ``device`` is what it found to run on.
    """

    runs: bool
    why: str = ""
    do: str = ""
    libraries: Mapping[str, str | None] = field(default_factory=dict)
    device: str = ""


@dataclass(frozen=True, kw_only=True)
class Temporary:
    """The folder for temporary files that is ``used``, "" where none can be; and what ``named`` by TMPDIR lacks."""

    used: str
    named: str = ""
    lacks: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the checks look at.

    ``free_disk_bytes`` by folder; ``python_wanted`` is empty where nnx is not installed; ``installed`` versions by
    distribution; ``wheels`` are those that put their files into the package onnxruntime; ``trials`` of providers by
    short name, empty without onnxruntime; ``compiler_lacks`` is what torch.compile misses, by device.
    """

    machine: Machine
    conditions: Conditions
    free_disk_bytes: Mapping[str, int]
    temporary: Temporary
    gpus: Gpus = field(default_factory=Gpus)
    nvidia_on_bus: bool = False
    python_wanted: str = ""
    needs: tuple[Need, ...] = ()
    installed: Mapping[str, str] = field(default_factory=dict)
    wheels: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    ort_cuda: str = ""
    torch_cuda: str = ""
    torch_trial: Trial | None = None
    compiler_lacks: Mapping[str, str | None] = field(default_factory=dict)
    package_manager: str | None = None

    @property
    def has_gpu(self) -> bool:
        """Whether there is one of NVIDIA's, with a working driver or not."""
        return bool(self.gpus.devices or self.gpus.problem or self.nvidia_on_bus)


def read() -> Facts:
    """Read all of it, in about a second; a machine with CUDA takes some more to start it."""
    here = conditions.read()  # first: what is started below makes the machine busy
    gpus, on_bus = machine.gpus(), _nvidia_on_bus()
    torch_cuda = _torch_cuda()
    usable = bool(torch_cuda and (gpus.devices or gpus.problem or on_bus))
    trials, ort_cuda = _try_providers()
    wanted, needs = requirements()
    temporary = _temporary()
    return Facts(
        machine=machine.describe(),
        conditions=here,
        gpus=gpus,
        nvidia_on_bus=on_bus,
        free_disk_bytes=_free_disk_bytes(temporary),
        temporary=temporary,
        python_wanted=wanted,
        needs=needs,
        installed=_installed(needs),
        wheels=registry.wheels(),
        trials=trials,
        ort_cuda=ort_cuda,
        torch_cuda=torch_cuda,
        torch_trial=_trial(*_ask("torch")) if usable else None,
        compiler_lacks={device: torch_compiler.why_not(device) for device in ("cpu", "cuda")[: 1 + usable]},
        package_manager=next((name for name in _PACKAGE_MANAGERS if shutil.which(name)), None),
    )


def parse_need(requirement: str, extras: Sequence[str] = ()) -> Need | None:
    """A requirement such as ``name>=1.2; extra == "cpu"``, which one of ``extras`` may bring.

    None for one without a lower bound, and for one that its marker keeps for other machines or Pythons.
    """
    found = Requirement(requirement)
    at_least = next((each.version for each in found.specifier if each.operator == ">="), None)
    # an empty extra is that of a plain `pip install`
    wanted_by = [extra for extra in ("", *extras) if found.marker is None or found.marker.evaluate({"extra": extra})]
    return Need(found.name, at_least, wanted_by[0] or None) if at_least and wanted_by else None


def last_words(log: str, status: int) -> str:
    """The line of a backend's stderr that says why: onnxruntime's error, a warning, or the end of a traceback."""
    if status < 0:
        return f"it crashed ({signal.Signals(-status).name})"
    lines = [line.strip() for line in re.sub(r"\x1b\[[\d;]*m", "", log).splitlines() if line.strip()]
    for pattern in (
        r"Failed to load library .* with error: (.*)",
        r"\[E:onnxruntime.* : (.*)",
        r"Warning: (.*)",
    ):
        for line in lines:
            if found := re.search(pattern, line):
                return found[1].rstrip(".")
    return lines[-1].rstrip(".") if lines else ""


def requirements() -> tuple[str, tuple[Need, ...]]:
    """The Python and the libraries that nnx asks for; where it is not installed, what it imports in any version."""
    try:
        own = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "", tuple(Need(name, "") for name in _IMPORTED)
    extras = own.metadata.get_all("Provides-Extra") or ()
    needs = tuple(need for each in own.requires or () if (need := parse_need(each, extras)))
    return own.metadata["Requires-Python"] or "", needs


def _installed(needs: tuple[Need, ...]) -> dict[str, str]:
    found = {}
    for need in needs:
        try:
            found[need.name] = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _free_disk_bytes(temporary: Temporary) -> dict[str, int]:
    """Of the working folder, which may be deleted by now, and of the temporary one, which may be nowhere."""
    folders = [temporary.used] if temporary.used else []
    with contextlib.suppress(OSError):
        folders.insert(0, os.getcwd())  # noqa: PTH109 - as text
    found = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            found[folder] = shutil.disk_usage(folder).free
    return found


def _temporary() -> Temporary:
    named, used = temporary_folder.given()
    lacks = ""
    if named:
        try:
            with tempfile.TemporaryFile(dir=named) as file:
                file.write(b"x")
        except OSError as error:
            lacks = os.strerror(error.errno or 0)
    return Temporary(used=str(used or ""), named=named, lacks=lacks)


def _torch_cuda() -> str:
    """The CUDA version that torch was built for, from its version.py: importing torch takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^cuda\b.*=\s*'([\d.]+)'", text, re.MULTILINE)
    return found[1] if found else ""


def _try_providers() -> tuple[dict[str, Trial], str]:
    """Start each provider that onnxruntime offers, and tell the CUDA version that it was built with."""
    if importlib.util.find_spec("onnxruntime") is None:
        return {}, ""
    answer, said = _ask("onnxruntime", "cpu")
    offered = [name for name in answer["offered"] if name not in ("cpu", _REMOTE)] if answer else []
    with ThreadPoolExecutor() as pool:
        others = pool.map(lambda name: _trial(*_ask("onnxruntime", name)), offered)
        trials = {"cpu": _trial(answer, said), **dict(zip(offered, others, strict=True))}
    return trials, answer["cuda"] if answer else ""


def _trial(answer: Mapping[str, Any] | None, said: str) -> Trial:
    """What the backend told, or its last words where it told nothing."""
    trial = Trial(**answer["trial"]) if answer else Trial(runs=False)
    return trial if trial.runs or trial.why else replace(trial, why=said)


def _ask(*question: str) -> tuple[dict[str, Any] | None, str]:
    """The answer of :mod:`toolchain.doctor.probe`, None when it died, and its last words."""
    command = [sys.executable, "-m", "toolchain.doctor.probe", *question]
    try:
        ended = subprocess.run(
            command, cwd=own_packages.PARENT, env=own_packages.environment(), stdin=subprocess.DEVNULL,
            capture_output=True, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"it did not answer within {_TIMEOUT_S:.0f} s"
    said = last_words(ended.stderr.decode(errors="replace"), ended.returncode)
    return (json.loads(ended.stdout), said) if ended.returncode == 0 else (None, said)


def _nvidia_on_bus() -> bool:
    """Whether the PCI bus has a display of NVIDIA's: then a driver is what is missing."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii") for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor.strip() == _NVIDIA and kind.startswith(_DISPLAY):
            return True
    return False
