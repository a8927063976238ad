"""What reads many samples, done in parts by several workers, to what one would come to: to the bit."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from exporters import feeds, onnx_file
from exporters.batch_axes import BatchAxes
from exporters.calibration import activations
from exporters.calibration.activations import DEFAULT_MEMORY_BUDGET, A, Fold, Work
from exporters.feeds import SampleSet
from exporters.model_file import ModelFile
from runtimes.ort import OrtRuntime
from toolchain.accuracy import running
from toolchain.accuracy.kept_calls import kept
from toolchain.accuracy.output_values import Call, Calls
from toolchain.inputs.samples import Samples
from toolchain.processes.workers import Shared, Workers, in_order

SHARDS_A_WORKER = 4
"""So that one that is slower than the others has fewer."""


def fold_by(workers: Workers) -> Fold:
    """:func:`activations.fold` by ``workers``: each looks at some of the calls, and what they kept is merged."""
    if workers.count == 1:
        return activations.fold

    def fold(
        model: onnx.ModelProto,
        samples: SampleSet,
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
            shards = list(borders(len(one.parts), SHARDS_A_WORKER * workers.count))

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


def _look(looking: Shared[_Looking], asked: tuple[int, slice]) -> dict[str, Any]:
    (number, shard), work = asked, looking.value.work
    one = work.passes[number]
    return work.done(one, one.parts[shard], looking.value.session(number))


def runs_of(samples: SampleSet, axes: BatchAxes, shards: int) -> list[range]:
    """The samples in as many runs as ``shards`` says at most, whose calls together are those of all; one if too few."""
    parts = running.parts_of(samples, axes)
    if len(parts) < running.FEWEST_CALLS:
        return [range(parts[0].start, parts[-1].stop)]
    return [range(parts[run][0].start, parts[run][-1].stop) for run in borders(len(parts), shards)]


def calls_by(
    workers: Workers, file: ModelFile, on: Shared[Samples], axes: BatchAxes, *, as_hardware: bool = False
) -> Calls:
    """:func:`running.calls_of` by ``workers``, in the order of the samples."""
    runs = runs_of(on.value.inputs, axes, workers.count)
    if len(runs) == 1:
        return running.calls_of(file, on.value.inputs, axes, as_hardware=as_hardware)
    shared = workers.share(_Evaluated(file, on, axes, as_hardware))
    return kept(call for found in in_order(workers, _evaluate, shared, runs) for call in found)


@dataclass(frozen=True)
class _Evaluated:
    file: ModelFile
    on: Shared[Samples]
    axes: BatchAxes
    as_hardware: bool


def _evaluate(evaluated: Shared[_Evaluated], run: range) -> list[Call]:
    each = evaluated.value
    with tempfile.TemporaryDirectory(prefix="nnx-shard-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        onnx_file.write(each.file.proto, path)
        runtime = running.opened(ModelFile(path), as_hardware=each.as_hardware)
    with closing(runtime):
        return list(calls_in(run, runtime, each.on.value, each.axes))


def calls_in(run: range, runtime: OrtRuntime, samples: Samples, axes: BatchAxes) -> Calls:
    """What an opened file gives for one of :func:`runs_of`."""
    return running.calls_with(runtime, feeds.some(samples.inputs, axes, run.start, len(run)), axes)
