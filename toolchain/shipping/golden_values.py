"""The golden values of a package, read again: what :mod:`.golden` wrote, without all that it takes to choose them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.base import FEEDABLE
from toolchain import regular_file, strict_json
from toolchain.errors import BadUsage
from toolchain.shipping.package import GOLDEN, GOLDEN_ARRAYS
from toolchain.shipping.tolerance import Tolerance

Array = npt.NDArray[Any]
_ARRAY = {
    "type": "object",
    "required": ["name", "dtype", "shape", "offset", "bytes"],
    "properties": {
        "name": {"type": "string"},
        "dtype": {"enum": sorted(FEEDABLE)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "offset": {"type": "integer", "minimum": 0},
        "bytes": {"type": "integer", "minimum": 0},
    },
}
_ARRAYS = {"type": "array", "items": _ARRAY}
_TOLERANCE = {
    "type": "object",
    "required": ["absolute", "relative", "why"],
    "properties": {
        "absolute": {"type": "number", "minimum": 0},
        "relative": {"type": "number", "minimum": 0},
        "why": {"type": "string"},
    },
    "additionalProperties": False,
}
_SCHEMA = {
    "type": "object",
    "required": ["format", "singles", "cases", "tolerances"],
    "properties": {
        "format": {"const": 1},
        "singles": {"type": "integer", "minimum": 1},
        "cases": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["inputs", "outputs"],
                "properties": {
                    "inputs": _ARRAYS,
                    "outputs": {"type": "object", "additionalProperties": _ARRAYS},
                },
            },
        },
        "tolerances": {
            "type": "object",
            "additionalProperties": {"type": "object", "additionalProperties": _TOLERANCE},
        },
    },
}


@dataclass(frozen=True)
class Golden:
    """What is read of a package for one of its variants: calls, their outputs, and how far each output may be off.

    The first ``singles`` calls are of one sample each, or of one batch where it is fixed.
    """

    calls: Sequence[Mapping[str, Array]]
    outputs: Sequence[Mapping[str, Array]]
    tolerances: Mapping[str, Tolerance]
    singles: int

    def faults(self, number: int, outputs: Mapping[str, Array]) -> list[str]:
        """What is wrong with the answer to one of the calls, a sentence each without its full stop."""
        told = []
        for name, want in self.outputs[number].items():
            why = self.tolerances[name].why_not(outputs[name], want) if name in outputs else "is not there"
            if why:
                told.append(f"'{name}' of case {number} {why}")
        return told


def read(folder: Path, variant: str) -> Golden:
    """The golden values that the package in ``folder`` has for ``variant``; raise BadUsage for what are none."""
    try:
        described = strict_json.parsed(regular_file.read_bytes(folder / GOLDEN))
        strict_json.check(described, _SCHEMA)
        content = regular_file.read_bytes(folder / GOLDEN_ARRAYS)
        calls = [_arrays(case["inputs"], content) for case in described["cases"]]
        outputs = [_arrays(case["outputs"].get(variant, []), content) for case in described["cases"]]
        tolerances = {name: Tolerance(**each) for name, each in described["tolerances"].get(variant, {}).items()}
    except ValueError as error:
        raise BadUsage(f"{folder / GOLDEN} cannot be read: {error}.", "Make it again with `nnx pack`.") from error
    if any(not each or each.keys() != tolerances.keys() for each in outputs):
        raise BadUsage(f"{folder} has no golden outputs for {variant}.", "Make it again with `nnx pack`.")
    return Golden(calls, outputs, tolerances, min(described["singles"], len(calls)))


def _arrays(described: Sequence[Mapping[str, Any]], content: bytes) -> dict[str, Array]:
    """By name, read-only; ValueError for what lies outside of ``content``."""
    found = {}
    for each in described:
        kind = np.dtype(each["dtype"]).newbyteorder("<")
        size = math.prod(each["shape"]) * kind.itemsize
        if size != each["bytes"] or each["offset"] + size > len(content):
            raise ValueError(f"'{each['name']}' lies outside of {GOLDEN_ARRAYS}")
        flat = np.frombuffer(content, kind, math.prod(each["shape"]), each["offset"] if size else 0)
        found[each["name"]] = flat.reshape(each["shape"]).astype(each["dtype"], copy=False)
    return found
