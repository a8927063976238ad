"""What the package says of itself, and its arrays."""

import json
import math
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


class Refused(Exception):
    """What happened, what to do, the exit code."""

    def __init__(self, what, do, code=2):
        super().__init__(what)
        self.what, self.do, self.code = what, do, code


def read(name):
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


PACKAGE = read("nnx/package.json")


def chosen(name):
    """The variants called so; all without a name, the recommended one first."""
    found = [each for each in PACKAGE["variants"] if name in (None, each["name"])]
    if not found:
        names = ", ".join(each["name"] for each in PACKAGE["variants"])
        raise Refused(f"There is no variant '{name}'.", f"Choose from {names}.")
    return found


def arrays(described, content):
    """Golden arrays by name."""
    found = {}
    for each in described:
        kind = np.dtype(each["dtype"]).newbyteorder("<")
        flat = np.frombuffer(content, kind, math.prod(each["shape"]), each["offset"])
        found[each["name"]] = flat.reshape(each["shape"]).astype(each["dtype"], copy=False)
    return found


def golden():
    """What nnx/golden.json says, and all its arrays."""
    return read("nnx/golden.json"), (ROOT / "nnx/golden.bin").read_bytes()


def told_by(path):
    """What Linux says in one of its own files; nothing elsewhere."""
    return Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).exists() else ""
