"""Where two matched models part: every tensor that both compute, on the same inputs, in the order of the first."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from exporters import feeds
from exporters.model_file import ModelFile
from runtimes.base import run
from runtimes.errors import NotLoadable
from toolchain.accuracy.comparison import MIN_SQNR_DB, ROUNDINGS
from toolchain.inputs.samples import Samples
from toolchain.inspection import probing
from toolchain.inspection.difference import TensorChange, Values
from toolchain.inspection.matching import Matching
from toolchain.inspection.probing import NotReadable, Tap
from toolchain.inspection.tensor_types import of_main_graph
from toolchain.layers.damage import Noise
from toolchain.layers.record import LIMIT_DB
from toolchain.progress import Progress

_FIRST, _MOST = 16, 512
_BUDGET = 2**29
"""Tensors that are looked at in one session: a few, then as many as a call of both models holds in so many bytes."""
_A_CALL = 4


def limit_of(one: str, two: str) -> float:
    """The least SQNR that the coarser of two precisions explains."""
    return min(ROUNDINGS[each].limit_db if each in ROUNDINGS else MIN_SQNR_DB for each in (one, two))


def values(
    matching: Matching,
    a: ModelFile,
    given: Samples,
    *,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    limit_db: float,
    progress: Progress,
) -> Values:
    """Run both on ``given``, which is ``a``'s; ``inputs`` and ``outputs`` are those of ``a`` by the name in the other.

    Tensors that no output can be are left out one by one, and counted. Raises RunFailed, NotLoadable or BadFeed where
    one of the models does not run.
    """
    calls = list(feeds.calls(given.inputs, a.batch_axes, _A_CALL))
    ends, compared = list(_ends(matching, outputs)), list(_compared(matching))
    results = _readable(matching, ends, calls, inputs)
    found: list[TensorChange] = []
    with progress.bar("tensors", len(compared)) as bar:
        start, size = 0, _FIRST
        while group := compared[start : start + size]:
            found += _lookable(matching, group, calls, inputs)
            start += len(group)
            size = _next_size(group, len(calls))
            bar.advance(len(group))
    every = [*found, *results]
    return Values(
        samples=given.source,
        count=len(given),
        limit_db=limit_db,
        tensors=tuple(found),
        left_out=len(compared) - len(found) + len(ends) - len(results),
        outputs=tuple(results),
        differs=next((each for each in every if each.equal < 1 or each.note), None),
        parts=next((each for each in every if _parts(each, limit_db)), None),
    )


def _next_size(group: "Sequence[_Pair]", calls: int) -> int:
    each = sum(pair.count for pair in group) * 2 * 4 / max(calls, 1) / len(group)
    return max(_FIRST, min(_MOST, int(_BUDGET / max(each, 1))))


def _parts(change: TensorChange, limit_db: float) -> bool:
    if change.note:
        return True
    return change.equal < 1 if change.sqnr_db is None else change.sqnr_db < limit_db


class _Pair:
    """A tensor in both models."""

    def __init__(self, one: Tap, two: Tap, node: str, operator: str) -> None:
        self.one, self.two, self.node, self.operator = one, two, node, operator
        self.noise, self.is_float = Noise(), False
        self.equal = self.count = 0
        self.largest = 0.0
        self.note = ""

    def add(self, wanted: Any, got: Any) -> None:
        if isinstance(wanted, list) or isinstance(got, list):
            self._add_sequence(wanted, got)
            return
        wanted, got = np.asarray(wanted), np.asarray(got)
        if wanted.shape != got.shape:
            self.note = f"its shape is {list(wanted.shape)} and {list(got.shape)}"
            return
        self.count += wanted.size
        if wanted.dtype.kind == "f" and got.dtype.kind == "f":
            self.is_float = True
            same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))
            alike = int(same.sum())
            self.equal += alike
            if alike == wanted.size:
                return  # most tensors of two like files: nothing to measure, and the SQNR is that of the other calls
            broken = ~np.isfinite(got) & ~same
            if broken.any():
                self.note = f"{int(broken.sum()):,} values are NaN or infinite in the second alone"
            self.noise.add(np.where(np.isnan(wanted), 0, wanted), np.where(np.isnan(wanted) & np.isnan(got), 0, got))
            with np.errstate(invalid="ignore"):
                off = np.abs(np.where(same, 0.0, wanted.astype(np.float64) - got))
            self.largest = max(self.largest, float(off.max(initial=0.0)))
        else:
            self.equal += int((wanted == got).sum())

    def _add_sequence(self, wanted: Any, got: Any) -> None:
        if not isinstance(wanted, list) or not isinstance(got, list) or len(wanted) != len(got):
            self.note = "its sequences are of other lengths"
            return
        for one, two in zip(wanted, got, strict=True):
            if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
                self.add(one, two)
            else:
                self.count += 1
                self.equal += int(one == two)

    def change(self) -> TensorChange:
        no_number = bool(self.note) and not self.is_float
        return TensorChange(
            a=self.one.tensor,
            b=self.two.tensor,
            node=self.node,
            operator=self.operator,
            equal=self.equal / self.count if self.count else 1.0,
            sqnr_db=None if no_number or not self.is_float else self._sqnr_db(),
            max_difference=self.largest if self.is_float and math.isfinite(self.largest) else None,
            note=self.note,
        )

    def _sqnr_db(self) -> float:
        return LIMIT_DB if self.equal == self.count else self.noise.sqnr_db


def _compared(matching: Matching) -> Iterator[_Pair]:
    """The results of matched operations."""
    types = of_main_graph(matching.a.model)[0], of_main_graph(matching.b.model)[0]
    for left, right in matching.pairs:
        a = matching.a.all[matching.rectified[0].get(left, left)]
        b = matching.b.all[matching.rectified[1].get(right, right)]
        for place, (one, two) in enumerate(zip(a.results, b.results, strict=False)):
            if one and two:
                taps = [
                    Tap(name, kinds.get(name, ""), operation.quantizer if place == 0 else None)
                    for name, kinds, operation in ((one, types[0], a), (two, types[1], b))
                ]
                yield _Pair(taps[0], taps[1], a.label, a.operator)


def _ends(matching: Matching, outputs: Mapping[str, str]) -> Iterator[_Pair]:
    types = of_main_graph(matching.a.model)[0], of_main_graph(matching.b.model)[0]
    for one, two in outputs.items():
        yield _Pair(Tap(one, types[0].get(one, "")), Tap(two, types[1].get(two, "")), "", "output")


def _lookable(
    matching: Matching, pairs: Sequence[_Pair], calls: Sequence[Mapping[str, Any]], inputs: Mapping[str, str]
) -> list[TensorChange]:
    """Those of ``pairs`` that can be outputs, found by halving what ONNX Runtime refuses."""
    try:
        return _measured(matching, pairs, calls, inputs)
    except (NotLoadable, NotReadable):
        halves = (pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]) if len(pairs) > 1 else ()
        return [change for half in halves for change in _lookable(matching, half, calls, inputs)]


def _readable(
    matching: Matching, ends: Sequence[_Pair], calls: Sequence[Mapping[str, Any]], inputs: Mapping[str, str]
) -> list[TensorChange]:
    """The outputs of the models, but for those of types that numpy does not have."""
    try:
        return _measured(matching, ends, calls, inputs)
    except NotReadable:
        return _lookable(matching, ends, calls, inputs)


def _measured(
    matching: Matching, pairs: Sequence[_Pair], calls: Sequence[Mapping[str, Any]], inputs: Mapping[str, str]
) -> list[TensorChange]:
    if not pairs:
        return []
    one, names = probing.tapped(matching.a.model, [pair.one for pair in pairs])
    two, others = probing.tapped(matching.b.model, [pair.two for pair in pairs])
    with probing.opened(one, "the first") as first, probing.opened(two, "the second") as second:
        for call in calls:
            wanted = run(first, probing.fitted(call, first.inputs))
            renamed = {inputs[name]: value for name, value in call.items() if name in inputs}
            got = run(second, probing.fitted(renamed, second.inputs))
            for pair, name, other in zip(pairs, names, others, strict=True):
                pair.add(wanted[name], got[other])
    return [pair.change() for pair in pairs]
