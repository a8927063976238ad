"""``nnx doctor --host``: one look at another machine over ssh, and what it lacks for ``nnx bench`` and ``nnx push``."""

import json
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from toolchain.doctor.checks import MISSING, OK, WARN, Check, int8, judged
from toolchain.errors import NotAvailable
from toolchain.hosts.address import Address
from toolchain.hosts.connection import command_to, script_of, text_of
from toolchain.legible import legible
from toolchain.machine.description import SHOWN_ISA
from toolchain.shipping.device import may_ask

_TOOLS = (
    "cat", "cp", "dd", "find", "head", "ln", "mkdir", "mv", "readlink", "rm", "sha256sum", "sync", "tail", "tar",
    "timeout", "wc",
)  # fmt: skip
"""What receive.sh asks for."""
_REMOTE = "AzureExecutionProvider"  # sends its inputs to a service; every wheel has it
_MARK = "nnx= "
_TIMEOUT_S = 180.0
_LEAST_DISK_BYTES, _LEAST_MEMORY_BYTES = 500_000_000, 300_000_000
_LARGEST_OFFSET_S = 60.0
_BUSY_SHARE = 0.1
_HOT_C = 75.0
_INSTALL = "python3 -m venv ~/nnx && ~/nnx/bin/pip install numpy onnxruntime, then --python '~/nnx/bin/python'"


@dataclass(kw_only=True)
class Seen:
    """What examine.sh said, by what it is about; ``offset_s`` is how much the machine's clock is ahead of ours."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    offset_s: float = 0.0
    unreachable: str = ""

    def one(self, name: str) -> str:
        return next(iter(self.lines.get(name, ())), "")

    @property
    def portrait(self) -> dict[str, Any]:
        """What portrait.py told; nothing where no Python could run it."""
        answers = [json.loads(line)["result"] for line in self.lines.get("portrait", ())]
        return {name: value for answer in answers for name, value in answer.items()}


def examined(address: Address, python: str | None = None) -> tuple[Check, ...]:
    """All checks, the road there first; NotAvailable without ssh on this machine."""
    checks = _judge(_seen(address, python), address, python)
    return tuple(replace(check, found=legible(check.found)) for check in checks)  # what it says is a stranger's


def _seen(address: Address, python: str | None) -> Seen:
    script = script_of("examine.sh", python=python or "", portrait=text_of("portrait.py"), tools=" ".join(_TOOLS))
    command = command_to(address, script, asks=may_ask())
    began, clock = time.monotonic(), time.time()
    try:
        ended = subprocess.run(command, input=script, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise NotAvailable(f"There is no {command[0]} on this machine.", "Install OpenSSH's client.") from error
    except subprocess.TimeoutExpired:
        return Seen(unreachable=f"it did not answer within {_TIMEOUT_S:.0f} s")
    found = Seen(seconds=time.monotonic() - began)
    for text in ended.stdout.decode(errors="replace").splitlines():
        if text.startswith(_MARK):  # all else is a greeting of its shell
            name, _, told = text.removeprefix(_MARK).partition(" ")
            found.lines.setdefault(name, []).append(told)
    if "end" not in found.lines:
        last_words = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        found.unreachable = " ".join(last_words).strip().rstrip(".") or f"it broke off with code {ended.returncode}"
    elif found.one("time").isdigit():
        earliest, latest = clock - 1.0, time.time()  # its seconds are whole, and told somewhere in between
        there = float(found.one("time"))
        found.offset_s = min(there - earliest, 0.0) or max(there - latest, 0.0)
    return found


def _judge(seen: Seen, address: Address, python: str | None) -> Iterator[Check]:
    if seen.unreachable:
        login = shlex.join(address.reach).replace(" -T", "").replace(" --", "")
        mend = f"Try `{login}`; it must come through without a question, or be asked by one who sits there."
        yield Check("ssh", MISSING, seen.unreachable, mend)
        return
    yield Check("ssh", OK, f"{seen.one('user')} is there, and all was asked in {seen.seconds:.1f} s")
    yield Check("system", OK, f"{seen.one('system')}, {seen.one('architecture')}")
    lacks = seen.lines.get("lacks", [])
    found = f"no {', '.join(lacks)}: `nnx push` does not work" if lacks else "sh, tar and coreutils: `nnx push` works"
    yield judged("tools", not lacks, found, "Install coreutils and tar, or BusyBox.")
    yield from _python(seen, python)
    yield from _storage(seen)
    if portrait := seen.portrait:
        yield from _processor(portrait)
    away = f"at most {seen.seconds + 1:.0f} s" if not seen.offset_s else f"{abs(seen.offset_s):,.0f} s"
    side = "" if not seen.offset_s else ", ahead" if seen.offset_s > 0 else ", behind"
    right = abs(seen.offset_s) <= _LARGEST_OFFSET_S
    yield judged("time", right, f"its clock is off by {away}{side}", "sudo timedatectl set-ntp true")


def _python(seen: Seen, python: str | None) -> Iterator[Check]:
    version, _, place = seen.one("python").partition(" ")
    if not version:
        yield Check("python", MISSING, f"{python or 'python3'} is not there: `nnx bench` needs one", _INSTALL)
        return
    yield Check("python", OK, f"{version}, {place}")
    libraries = seen.portrait.get("libraries", {})
    for name in ("numpy", "onnxruntime"):
        there = name not in seen.lines.get("without", ()) and name in libraries
        found = libraries[name] if there else f"{place} has none: `nnx bench` needs it"
        yield judged(name, there, found, _INSTALL, worse=MISSING)
    if providers := seen.portrait.get("providers"):
        yield Check("providers", OK, ", ".join(each for each in providers if each != _REMOTE))


def _storage(seen: Seen) -> Iterator[Check]:
    memory = seen.one("memory").split()
    if len(memory) > 1 and memory[1].isdigit():
        free = int(memory[1]) * 1024
        yield judged("memory", free >= _LEAST_MEMORY_BYTES, f"{free / 2**30:.1f} GiB free", "Close other programs.")
    rooms = [line.split() for line in seen.lines.get("free", ()) if len(line.split()) >= 6]
    frees = {parts[5]: int(parts[3]) * 1024 for parts in rooms if parts[3].isdigit()}
    if frees:
        told = ", ".join(f"{free / 2**30:.1f} GiB free in {place}" for place, free in frees.items())
        yield judged("disk", min(frees.values()) >= _LEAST_DISK_BYTES, told, "Free some space.")
    for place in seen.lines.get("unwritable", ()):
        yield Check("disk", WARN, f"{place} cannot be written", "Name a folder in the address, as ssh://host/~/bench.")


def _processor(portrait: dict[str, Any]) -> Iterator[Check]:
    yield Check("processor", OK, f"{portrait['processor']}, {portrait['cores']} cores")
    if portrait["emulated"]:
        found = f"it is emulated, {portrait['emulated']}"
        yield Check("emulation", WARN, found, "What it answers counts, how fast it is does not: bench a real one too.")
    else:
        flags = set(portrait["isa"])
        isa = tuple(flag for flag in SHOWN_ISA if flag in flags)
        yield int8(portrait["architecture"], isa)
    governors: Sequence[str] = portrait["governors"]
    told = f"governor {', '.join(governors)}" if governors else "the governor is not to be read"
    steady = not governors or set(governors) == {"performance"}
    yield judged("clock", steady, told, "sudo cpupower frequency-set -g performance")
    if (heat := portrait["temperature_c"]) is not None:
        yield judged("temperature", heat < _HOT_C, f"{heat:.0f} °C", "Cool it: a hot processor lowers its clock.")
    if portrait["throttled"] not in ("", "0", "0x0"):
        found = f"get_throttled says {portrait['throttled']}: too hot, or too little voltage, now or since its start"
        yield Check("supply", WARN, found, "Give it a stronger supply, cool it, and start it again.")
    busy = portrait["busy"]
    found = f"{busy:.0%} of the processor time is in use now"
    yield judged("load", busy <= _BUSY_SHARE, found, "Stop other programs there, or bench later.")
