"""Calls that are kept to be looked at again: the first ones in memory, what goes beyond in a file without a name."""

import itertools
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from toolchain.accuracy import calls_file
from toolchain.accuracy.one_by_one import OneByOne
from toolchain.accuracy.output_values import Call, Calls

MEMORY_BYTES = 64 * 2**20
"""What the outputs of all samples may take in memory: a classifier's do, masks and feature maps go to the disk."""


def kept(calls: Iterable[Call]) -> Calls:
    """``calls``, each kept before the next is made."""
    first: list[Call] = []
    held = 0
    left = iter(calls)
    for call in left:
        first.append(call)
        held += sum(map(_bytes_of, call.values()))
        if held > MEMORY_BYTES:
            break
    if (beyond := next(left, None)) is None:
        return first
    file = tempfile.TemporaryFile(prefix="nnx-calls-")  # noqa: SIM115 - it is closed with whoever reads it last
    calls_file.write(file, itertools.chain([beyond], left))
    more = calls_file.read(file)

    def at(number: int) -> Call:
        return first[number] if number < len(first) else more[number - len(first)]

    return OneByOne(len(first) + len(more), at)


def _bytes_of(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_bytes_of, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes_of, value))
    return int(np.asarray(value).nbytes)
