"""What a bench asks of another machine that rows run on; :mod:`toolchain.hosts` has them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from toolchain.bench.group import Contestant
from toolchain.machine import conditions

_NOW, _SINCE_START = 0xF, 0xF0000
"""Of what a Raspberry Pi tells: too little voltage, a lowered clock."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a machine does at a moment.

    ``busy`` is the share of its processors that all its programs used, 0 to 1; ``times`` are those of its /proc/stat;
    ``throttled`` is a Raspberry Pi's own word for it, in hexadecimal, empty elsewhere.
    """

    busy: float
    times: tuple[int, ...]
    temperature_c: float | None
    governors: tuple[str, ...]
    throttled: str


class Host(Protocol):
    """A machine at the other end; ``address`` is what its rows' settings name."""

    address: str
    cores: int

    @property
    def machine(self) -> dict[str, Any]:
        """As the record describes it."""

    def start(self, job: str, spec: dict[str, Any], **limits: Any) -> Contestant:
        """A row there, in place of :class:`toolchain.processes.turns.Turn`."""

    def seen(self) -> tuple[Look, Look]:
        """How it did before the first round, and now."""


def stolen(before: Look, after: Look) -> float:
    """The share of the processor time wanted in between, 0 to 1, that the machine's own host gave to others."""
    return conditions.stolen_share([late - early for early, late in zip(before.times, after.times, strict=True)])


def warnings(name: str, before: Look, after: Look) -> Iterable[str]:
    """What the machine tells of its clock."""
    was, is_now = (int(look.throttled or "0", 16) for look in (before, after))
    if is_now & _NOW or is_now & ~was & _SINCE_START:
        yield (
            f"{name} lowered its clock (get_throttled {after.throttled}): it is hot, or its supply is weak. Cool it, "
            "or give it a stronger supply, then run it again."
        )
    if after.governors and set(after.governors) != {"performance"}:
        yield (
            f"{name} has the governor {', '.join(after.governors)}, which lowers the clock between runs: "
            "`sudo cpupower frequency-set -g performance` there holds it."
        )


def described(name: str, facts: Mapping[str, Any]) -> str:
    """A line for a person."""
    memory, heat = facts.get("memory_bytes"), facts.get("temperature_c") or []
    parts = [
        facts.get("processor"),
        facts.get("architecture"),
        "emulated" if facts.get("emulated") else "",
        f"{facts.get('cores')} cores",
        f"{memory / 2**30:.1f} GiB" if memory else "",
        facts.get("system"),
        f"onnxruntime {facts.get('libraries', {}).get('onnxruntime', '-')}",
        f"governor {', '.join(facts['governors'])}" if facts.get("governors") else "",
        f"{heat[0]:.0f} to {heat[-1]:.0f} °C" if heat else "",
    ]
    return f"{name}: {', '.join(str(part) for part in parts if part)}."
