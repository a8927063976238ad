"""What is not the same around two benchmarks: the machine, the system, versions, data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toolchain.bench.record import LOCAL, Benchmark, shown_host

_KEPT_BY_KERNELS = 0.03


@dataclass(frozen=True)
class Difference:
    """Something that is not the same in both."""

    what: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.what} {self.old} → {self.new}"


def of_machines(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> tuple[Difference, ...]:
    """What makes those of the same name others: processor, architecture, memory, GPU, emulation.

    A new driver or kernel does not.
    """
    return differing(
        {
            what: pair
            for name in old
            if name in new
            for what, pair in _pairs(old[name], new[name], "" if name == LOCAL else f"{shown_host(name)}: ").items()
        }
    )


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> dict[str, tuple[object, ...]]:
    return {
        **{f"{where}{name}": (old.get(name), new.get(name)) for name in ("processor", "architecture", "emulated")},
        f"{where}memory": _memory(old.get("memory_bytes", 0), new.get("memory_bytes", 0)),
        f"{where}gpu": (_device(old.get("gpu")), _device(new.get("gpu"))),
    }


def of_surroundings(old: Benchmark, new: Benchmark) -> tuple[Difference, ...]:
    """What else was not the same around the rows: the cores that could be used, system, versions, data."""
    before, after = old.machine, new.machine
    versions = [benchmark.machine.get("libraries", {}) for benchmark in (old, new)]
    return differing(
        {
            "system": (before.get("system"), after.get("system")),
            "usable cores": (before.get("cores"), after.get("cores")),
            "isa": (listed(before.get("isa", ())), listed(after.get("isa", ()))),
            "gpu driver": (_driver(before.get("gpu")), _driver(after.get("gpu"))),
            "python": (before.get("python"), after.get("python")),
            **{name: tuple(known.get(name) for known in versions) for name in {**versions[0], **versions[1]}},
            "data": (old.data, new.data),
        }
    )


def differing(pairs: Mapping[str, tuple[object, ...]]) -> tuple[Difference, ...]:
    """Those of ``what -> (old, new)`` that differ; None, nothing, and ``-`` are shown as none."""
    shown = {what: ["none" if each in (None, "", "-") else str(each) for each in pair] for what, pair in pairs.items()}
    return tuple(Difference(what, old, new) for what, (old, new) in shown.items() if old != new)


def listed(parts: Iterable[object]) -> str:
    """One word a part."""
    return " ".join(map(str, parts))


def _memory(old: int, new: int) -> tuple[str, str]:
    """In GiB; what a kernel keeps for itself, some megabytes more or less, is no difference."""
    same = abs(old - new) <= _KEPT_BY_KERNELS * max(old, new)
    before, after = (f"{size / 2**30:.3g} GiB" if size else "" for size in (old, old if same else new))
    return before, after


def _device(gpu: str | None) -> str | None:
    return gpu and gpu.partition(", driver ")[0]


def _driver(gpu: str | None) -> str | None:
    return gpu and gpu.partition(", driver ")[2]
