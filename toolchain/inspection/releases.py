"""What other releases of ONNX Runtime read and compute on the CPU, as their own wheels told.

releases.json is made by .ci/ask_ort_releases.py, which says what stands in it. The installed release is asked itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Protocol

import onnx

from runtimes import ort_kernels
from toolchain.errors import BadUsage
from toolchain.inspection.nodes import ONNX_DOMAINS

Types = Mapping[str, Sequence[str]]


class Computes(Protocol):
    """A release, asked for its kernels."""

    @property
    def label(self) -> str: ...

    def since_version(self, domain: str, operator: str, opset: int) -> int | None:
        """The version at which the operator of that opset was last changed; None for one that it does not know."""

    def kernels(self, domain: str, operator: str, since: int) -> Sequence[Types]:
        """The types of each CPU kernel for that version."""


class Installed:
    """The one that runs here."""

    label = "ONNX Runtime"
    since_version = staticmethod(ort_kernels.since_version)
    kernels = staticmethod(ort_kernels.kernels)


INSTALLED = Installed()


@dataclass(frozen=True)
class Release:
    """A release by its name, ``1.17``: the newest IR version and operator set that it opens."""

    name: str
    ir_version: int
    opset: int

    @property
    def label(self) -> str:
        return f"ONNX Runtime {self.name}"

    def since_version(self, domain: str, operator: str, opset: int) -> int | None:
        if domain in ONNX_DOMAINS:
            known = onnx.defs.has(operator, opset, "") and onnx.defs.get_schema(operator, opset, "")
            return known.since_version if known else None
        versions = [first for first, _, _ in self._of(domain, operator) if first <= opset]
        return max(versions, default=None)

    def kernels(self, domain: str, operator: str, since: int) -> Sequence[Types]:
        return [
            types
            for first, last, types in self._of(domain, operator)
            if (first == since if last is None else first <= since <= last)
        ]

    def _of(self, domain: str, operator: str) -> Sequence[tuple[int, int | None, Types]]:
        return _kernels(self.name).get((domain, operator), ())


def release(name: str) -> Release:
    """The release ``1.17``, or ``1.17.3``, which is taken for the last of its minor one. Raises BadUsage."""
    minor = ".".join(name.split(".")[:2])
    known = _table()["releases"]
    if minor not in known:
        raise BadUsage(f"Nothing is known of ONNX Runtime {name}.", f"Choose one from {', '.join(known)}.")
    return Release(minor, known[minor]["ir"], known[minor]["opset"])


def known_releases() -> tuple[Release, ...]:
    """All that something is known of, the oldest first."""
    return tuple(release(name) for name in _table()["releases"])


@cache
def _table() -> Any:
    return json.loads((resources.files("toolchain.inspection") / "releases.json").read_text(encoding="utf-8"))


@cache
def _kernels(name: str) -> Mapping[tuple[str, str], list[tuple[int, int | None, Types]]]:
    order = list(_table()["releases"])
    place = order.index(name)
    found: dict[tuple[str, str], list[tuple[int, int | None, Types]]] = {}
    for domain, operator, first, last, types, begins, ends in _table()["kernels"]:
        if order.index(begins) <= place <= order.index(ends):
            whole = {
                each: [kind if "(" in kind else f"tensor({kind})" for kind in kinds] for each, kinds in types.items()
            }
            found.setdefault((domain, operator), []).append((first, last, whole))
    return found
