"""What the installed ONNX Runtime has kernels for on the CPU, asked of itself."""

from collections.abc import Mapping, Sequence
from functools import cache

from onnxruntime.capi import onnxruntime_pybind11_state as library

_OPEN = 2**31 - 1
Types = Mapping[str, Sequence[str]]
"""Type parameter -> what it may be."""


def since_version(domain: str, operator: str, opset: int) -> int | None:
    """The version at which the operator of that opset was last changed; None for one that it does not know."""
    return max((version for version in _schemas().get((domain, operator), ()) if version <= opset), default=None)


def kernels(domain: str, operator: str, since: int) -> list[Types]:
    """The types of each kernel for that version, by ONNX Runtime's own rule of which versions a kernel is for."""
    return [
        types
        for (first, last), types in _kernels().get((domain, operator), ())
        if (first == since if last == _OPEN else first <= since <= last)
    ]


@cache
def _schemas() -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for schema in library.get_all_operator_schema():
        found.setdefault((schema.domain, schema.name), []).append(schema.since_version)
    return found


@cache
def _kernels() -> dict[tuple[str, str], list[tuple[tuple[int, int], Types]]]:
    found: dict[tuple[str, str], list[tuple[tuple[int, int], Types]]] = {}
    for kernel in library.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider":
            key = kernel.domain, kernel.op_name
            found.setdefault(key, []).append((tuple(kernel.version_range), kernel.type_constraints))
    return found
