"""How near a file comes to the model it was made of, and which outcomes are a fault of nnx's.

The measure is :mod:`benchmarks.hard.comparing`'s, on samples that nothing was calibrated on: every output as a whole
and each of its channels by its own variance, products of int8 summed up as with VNNI.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hard import comparing
from benchmarks.published import tools
from benchmarks.published.tools import Tried
from exporters.feeds import calls
from exporters.model_file import ModelFile

_BATCH = 16
_BETTER_DB = 1.0
"""By which one file is more accurate than another, beyond chance."""
_REFUSALS = {1, 2, 4}


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """``whole_db`` of the worst output of numbers, ``channel_db`` of the worst channel, ``agreement`` of answers.

    ``broken`` says what is no number any more.
    """

    whole_db: float = math.inf
    channel_db: float = math.inf
    channel: str = ""
    agreement: float = 1.0
    broken: str = ""

    @property
    def right(self) -> bool:
        """By the measure of `make hard`."""
        return not self.broken and self.channel_db >= comparing.LEAST_DB and self.agreement >= comparing.LEAST_AGREEMENT


def nearness(source: Path, made: Path, samples: Path) -> Nearness:
    """Of ``made`` to ``source``, call by call on ``samples``."""
    with np.load(samples) as arrays:
        feeds = list(calls(dict(arrays), ModelFile(source).batch_axes, _BATCH))
    right, names = comparing.outputs(source, feeds, exact=True)
    try:
        got, _ = comparing.outputs(made, feeds)
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime says of a file that a tool made
        return Nearness(broken=f"does not run: {' '.join(str(error).split())[:200]}")
    found = Nearness()
    for place, name in enumerate(names):
        found = _with_output(found, name, [call[place] for call in right], [call[place] for call in got])
    return found


def _with_output(found: Nearness, name: str, right: list[Any], got: list[Any]) -> Nearness:
    pairs = list(zip(right, got, strict=True))
    if not all(isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.shape == b.shape for a, b in pairs):
        if not all(isinstance(a, np.ndarray) for a in right):
            return found
        share = float(np.mean([comparing.agreement(a, b) for a, b in pairs]))
        return replace(found, agreement=min(found.agreement, share))
    parts = comparing.decibels(right, got)
    if parts is None:
        return replace(found, broken=f"{name}: other NaN or infinity")
    where, least = min(parts, key=lambda part: part[1])
    if least < found.channel_db:
        found = replace(found, channel_db=least, channel=f"{name} {where}")
    return replace(found, whole_db=min(found.whole_db, parts[0][1]))


def fault_of_look(tried: Tried) -> str:
    """What nnx did wrong when it told of a model that ONNX Runtime runs; "" for nothing."""
    if tried.traceback or tried.code not in tools.MAY_END[tried.mode]:
        return f"exit code {tried.code}{', a traceback' * tried.traceback}: {tried.says}"
    return ""


def fault(
    ours: Tried, near: Nearness | None, theirs: Tried | None, their_near: Nearness | None, *, source_bytes: int
) -> str:
    """What nnx did wrong; "" for nothing. ``theirs`` is ONNX Runtime's of the same mode, if it has one.

    A file of its that is no smaller than the model is none that nnx need make.
    """
    if ours.traceback or ours.code not in {0, *_REFUSALS}:
        return f"exit code {ours.code}{', a traceback' * ours.traceback}: {ours.says}"
    if ours.code == 0 and near is not None and not near.right:
        return f"wrong: {near.broken or f'{near.channel} {near.channel_db:.1f} dB'}"
    if theirs is None or theirs.code or their_near is None or their_near.broken:
        return ""
    if ours.code and their_near.right and theirs.size_bytes < source_bytes:
        return "refused, and ONNX Runtime's is right"
    if near is not None and their_near.channel_db > near.channel_db + _BETTER_DB:
        return f"ONNX Runtime's has {their_near.channel_db:.1f} dB where this has {near.channel_db:.1f}"
    return ""
