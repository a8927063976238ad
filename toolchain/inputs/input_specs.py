"""``--input``: what a user says of one of forward()'s inputs, a tensor's type, shape and range or a constant."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.base import FEEDABLE, MEND_TYPE
from toolchain.errors import BadUsage
from toolchain.inputs.json_values import value_of

BATCH = "batch"
_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
_TENSOR = re.compile(
    r"(?P<name>[\w.]+)=(?P<dtype>[a-z]\w*)\[(?P<shape>(\w+(,\w+)*)?)\]"
    rf"(>=(?P<low>{_NUMBER}))?(<(?P<below>{_NUMBER}))?"
)
_CONSTANT = re.compile(r"(?P<name>[\w.]+)=(?P<value>[^\[{]*)")
_MEND = (
    "Write it as image=float32[1,3,224,224], image=float32[1,3,h,w] for a dynamic h and w, ids=int64[batch,seq]<30522 "
    "for a range, or flag=true for a constant."
)


@dataclass(frozen=True)
class Spec:
    """A tensor: ``shape`` holds numbers and names; ``first`` is the number that stood where the batch is now.

    Its values are at least ``low`` and below ``below``, where those are given.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    first: int | None
    low: float | None = None
    below: float | None = None

    def drawn(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Values within the range that was given; without one normal ones."""
        if not self.has_range:
            return np.asarray(random.standard_normal(shape))
        is_float = np.issubdtype(np.dtype(self.dtype), np.floating)
        low = self.low if self.low is not None else min(0.0, (self.below or 0.0) - 1)
        below = self.below if self.below is not None else low + (1 if is_float else 2)
        if is_float:
            return np.asarray(random.uniform(low, below, shape))
        return np.asarray(random.integers(int(low), int(below), shape, dtype=self.dtype))

    @property
    def has_range(self) -> bool:
        return self.low is not None or self.below is not None


def parsed(texts: Sequence[str]) -> tuple[tuple[Spec, ...], dict[str, Any]]:
    """The tensors that ``--input``, given again and again, describes, and the constants by their names.

    ``image=float32[1,3,h,w]``: names are dynamic axes, and "batch" or "N" or else axis 0 is the batch.
    ``ids=int64[batch,seq]<30522``, ``x=float32[N,3]>=0<255``: the range of the values that are made up.
    ``flag=true``, ``scale=0.5``, ``mode=wide``, ``mask=null``: a value in JSON or a word, and no input of the file.
    ``parts.0=``, ``parts.1=`` are a list, ``parts.left=`` and so on a dict.
    """
    specs: list[Spec] = []
    constants: dict[str, Any] = {}
    for text in texts:
        plain = text.replace(" ", "")
        if match := _TENSOR.fullmatch(plain):
            specs.append(_tensor(text, match))
        elif match := _CONSTANT.fullmatch(text.strip()):
            try:
                constants[match["name"]] = value = value_of(f"--input '{text}'", match["value"])
                if isinstance(value, str) and value in FEEDABLE:
                    raise BadUsage(f"--input '{text}' has no axes.", _MEND)
            except BadUsage as error:
                raise BadUsage(f"--input '{text}' cannot be read.", _MEND) from error
        else:
            raise BadUsage(f"--input '{text}' cannot be read.", _MEND)
    if len({spec.name for spec in specs} | set(constants)) != len(texts):
        raise BadUsage("Two inputs have one name.", "Name each --input as forward() does.")
    return tuple(specs), constants


def _tensor(text: str, match: re.Match[str]) -> Spec:
    try:
        dtype = np.dtype(match["dtype"]).name
    except TypeError as error:
        raise BadUsage(f"--input '{text}' cannot be read.", _MEND) from error
    words = match["shape"].split(",") if match["shape"] else []
    shape = [int(word) if word.isdecimal() else BATCH if word in ("N", "n") else word for word in words]
    if any(isinstance(axis, str) and not axis.isidentifier() for axis in shape):
        raise BadUsage(f"--input '{text}' cannot be read.", _MEND)
    if any(axis == 0 for axis in shape):
        raise BadUsage(f"--input '{text}' has an axis of length 0.", "Every axis must be at least 1.")
    if dtype not in FEEDABLE:
        raise BadUsage(f"--input '{text}' has a type that nnx cannot feed.", MEND_TYPE)
    first = shape[0] if shape and isinstance(shape[0], int) and BATCH not in shape else None
    low, below = (None if match[name] is None else float(match[name]) for name in ("low", "below"))
    _require_range(text, dtype, low, below)
    return Spec(match["name"], dtype, tuple([BATCH, *shape[1:]] if first else shape), first, low, below)


def _require_range(text: str, dtype: str, low: float | None, below: float | None) -> None:
    if low is None and below is None:
        return
    if dtype == "bool":
        raise BadUsage(f"--input '{text}' has a range, and is true or false.", "Leave the range out.")
    if np.issubdtype(np.dtype(dtype), np.integer):
        limits = np.iinfo(np.dtype(dtype))
        wrong = any(end is not None and not end.is_integer() for end in (low, below))
        if wrong or not limits.min <= (low or 0) <= limits.max or (below or 0) > limits.max + 1:
            raise BadUsage(
                f"--input '{text}' has a range that {dtype} does not hold.", "Give whole numbers that it has."
            )
    if not math.isfinite((below or 0.0) - (low or 0.0)):
        raise BadUsage(f"--input '{text}' has a range without end.", "Give two numbers that are nearer.")
    if low is not None and below is not None and low >= below:
        raise BadUsage(f"--input '{text}' has an empty range.", "Give the lower end first: >=0<255.")
