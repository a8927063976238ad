"""What reads many samples, done in parts by several workers, to what one would come to: to the bit."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx

from exporters.calibration import activations
from exporters.calibration.activations import DEFAULT_MEMORY_BUDGET, A, Fold, Work
from exporters.calibration.data import Samples
from toolchain.processes.workers import Workers, in_order

_SHARDS_A_WORKER = 4
"""So that one that is slower than the others has fewer."""


def fold_by(workers: Workers) -> Fold:
    """:func:`activations.fold` by ``workers``: each looks at some of the calls, and what they kept is merged."""
    if workers.count == 1:
        return activations.fold

    def fold(
        model: onnx.ModelProto,
        samples: Samples,
        *,
        tensors: Sequence[str],
        make: Callable[[], A],
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        advance: Callable[[int], None] = lambda count: None,
    ) -> dict[str, A]:
        work = activations.planned(model, samples, tensors=tensors, make=make, memory_budget=memory_budget)
        shared = workers.share(_Looking(work))
        kept: dict[str, A] = {}
        for number, one in enumerate(work.passes):
            shards = list(borders(len(one.parts), _SHARDS_A_WORKER * workers.count))

            def told(number: int = number, one: activations.Pass = one, shards: Any = shards) -> Iterator[dict[str, A]]:
                asked = [(number, shard) for shard in shards]
                for shard, found in zip(shards, in_order(workers, _look, shared, asked), strict=True):
                    yield found
                    if number == 0:
                        advance(sum(map(len, one.parts[shard])))

            kept |= work.merged(one, told())
        return kept

    return fold


def borders(count: int, shards: int) -> Iterator[slice]:
    """``count`` things in as many runs as ``shards`` says at most, none empty, of lengths that differ by one."""
    shards = max(1, min(shards, count))
    for number in range(shards):
        yield slice(count * number // shards, count * (number + 1) // shards)


class _Looking:
    """The work, and the session of the pass that was last worked at, for the next shard of it."""

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self._open: tuple[int, Any] | None = None

    def session(self, number: int) -> Any:
        if self._open is None or self._open[0] != number:
            self._open = None  # before the next takes its memory
            self._open = number, self.work.session(self.work.passes[number])
        return self._open[1]


def _look(looking: _Looking, asked: tuple[int, slice]) -> dict[str, Any]:
    number, shard = asked
    one = looking.work.passes[number]
    return looking.work.done(one, one.parts[shard], looking.session(number))
