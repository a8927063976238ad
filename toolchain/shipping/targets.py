"""Where a package goes, and what it carries for that: ``nnx pack --target``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A kind of device: the ``runners`` that a package carries for it, the ``architecture`` if it has only one.

    ``ort`` says that apps there are built with the operators that they need alone, which takes ``.ort`` files.
    """

    name: str
    runners: tuple[str, ...] = ()
    architecture: str | None = None
    ort: bool = False


TARGETS = {
    target.name: target
    for target in (
        Target("linux-x64", ("python",), "x86_64"),
        Target("linux-arm64", ("python",), "aarch64"),
        Target("web", ("web", "node")),  # the page takes its rules from beside Node's runner
        Target("node", ("node",)),
        Target("cpp", ("cpp",)),
        Target("android", (), "aarch64", ort=True),
        Target("ios", (), "aarch64", ort=True),
    )
}


def cautions(targets: Sequence[Target], machine: Mapping[str, Any] | None) -> list[str]:
    """What the benchmark of one ``machine``, if there is any, does not tell about another kind of processor."""
    measured = None if machine is None else str(machine.get("architecture"))
    others = [target.name for target in targets if target.architecture not in (None, measured)]
    if measured is None or not others:
        return []
    return [
        f"The order was measured on {measured}, not on {', '.join(others)}: bench it there (--host), and pack again."
    ]
