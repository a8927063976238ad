"""An export is run beside PyTorch, call by call: at several batches, at other lengths, and where a guard breaks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from exporters.errors import AnotherRoad, NotExportable
from exporters.input_tree import Input
from exporters.model_file import ModelFile
from exporters.torch_guards import Guard
from runtimes.base import run
from runtimes.errors import NotLoadable, RunFailed
from runtimes.ort import OrtRuntime
from toolchain.accuracy import output_kinds, running
from toolchain.accuracy.comparison import Comparison, compare, worst
from toolchain.accuracy.output_kinds import Kind
from toolchain.conversion.other_lengths import PROVEN_BATCHES, varied
from toolchain.conversion.reference import Arrays, DoesNotRun, Reference
from toolchain.conversion.settling import Settled, settle
from toolchain.errors import BadUsage, CheckFailed, NotAvailable
from toolchain.inputs import examples
from toolchain.inputs.examples import Kept
from toolchain.inputs.input_specs import BATCH

_LARGE = range(8, 65)
_LARGE_BYTES = 8 << 20
_LARGE_S = 0.25
"""A large batch is one that people serve, as far as its inputs and the time it takes stay below these."""
_ROUND = 64
_MOST_BYTES = 1 << 28
"""Of inputs at which a guard is tried."""


class Unlike(CheckFailed):
    """An export does not agree with PyTorch on ``feeds``."""

    def __init__(self, feeds: Arrays, what: str, do: str) -> None:
        super().__init__(what, do)
        self.feeds = feeds


def proven(
    path: Path, reference: Reference, found: Settled, guards: Sequence[Guard] = ()
) -> tuple[Comparison, list[str]]:
    """Compare ``path`` with ``reference`` at every size; return the worst comparison, and what is to be said.

    Raises CheckFailed for the first size that does not agree, NotExportable where forward() takes another road.
    """
    compared: list[Comparison] = []
    notes: list[str] = []
    kinds = output_kinds.of(ModelFile(path).graph)
    try:
        with OrtRuntime(path) as runtime:
            longest = dict(found.example.limits)
            for guard in guards:
                notes += _tried(guard, runtime, reference, found, kinds, longest)
            for lengths, arrays in _calls(found, longest):
                try:
                    wanted = reference.run(feeds := reference.fed(arrays()))
                except (DoesNotRun, NotAvailable):  # at lengths that nobody asked for
                    notes += [f"forward() itself does not run with {_at(lengths)}."]
                    continue
                compared.append(_compared(wanted, feeds, runtime, reference, kinds))
                _require(compared[-1], lengths, feeds)
    except NotLoadable as error:
        if reference.precision == "fp32":
            raise
        raise BadUsage(
            f"The module computes in {reference.precision} inside, for which ONNX Runtime has no CPU kernels.",
            "Export module.float(), and take the casts out of forward(); nnx convert makes the half-precision file.",
        ) from error
    return replace(worst(compared), samples=max(one.samples for one in compared)), list(dict.fromkeys(notes))


def check_export(path: Path, module: torch.nn.Module, inputs: Mapping[str, npt.NDArray[np.generic]]) -> Comparison:
    """:func:`proven` for a module that takes ``inputs`` ``(S, ...)``, whose first axis is the batch."""
    example = examples.of_arrays(inputs, "the inputs given", takes={name: Input(name) for name in inputs})
    return proven(path, *settle(module, example))[0]


def _calls(found: Settled, longest: Mapping[str, int]) -> Iterator[tuple[dict[str, int], Callable[[], Arrays]]]:
    """What makes the inputs of one run each, with the lengths of their dynamic axes.

    None is above ``longest``: what would be is as much shorter than that, so that each axis has several all the same.
    """
    example = found.example
    for asked in sizes(found):
        lengths = {axis: _below(longest.get(axis, length), length) for axis, length in asked.items()}
        yield lengths, partial(example.at, lengths)
    if isinstance(example, Kept):
        for arrays in example.others:
            yield example.lengths_of(arrays), partial(dict, arrays)
        count = min(max(example.first_lengths().values(), default=0), running.SAMPLES)
        for start in range(0, count, _LARGE.stop - 1):
            part = partial(example.rows, start, min(start + _LARGE.stop - 1, count))
            yield {**found.lengths, BATCH: min(_LARGE.stop - 1, count - start)}, part


def sizes(found: Settled) -> Iterator[dict[str, int]]:
    """Lengths of the dynamic axes at which a file is compared with made-up inputs."""
    traced, batches = found.lengths, [*PROVEN_BATCHES]
    if BATCH in traced:
        one = sum(array.nbytes for array in found.example.at(traced).values()) // traced[BATCH]
        large = min(_LARGE_BYTES // max(1, one), int(_LARGE_S * traced[BATCH] / max(found.seconds, 1e-3)))
        batches.append(min(max(large, _LARGE.start), _LARGE.stop - 1))
    yield from varied(traced, batches, found.scale)


def _below(limit: int, length: int) -> int:
    return length if length <= limit else max(2 * limit - length, limit // 2, 1)


def _tried(
    guard: Guard,
    runtime: OrtRuntime,
    reference: Reference,
    found: Settled,
    kinds: Mapping[str, Kind],
    longest: dict[str, int],
) -> list[str]:
    """What to say about a guard, after both were run where it does not hold.

    ``longest`` gets the length of its axis beyond which the file, unlike PyTorch, does not run.
    """
    if guard.broken_at > (most := found.example.limits.get(guard.axis, guard.broken_at)):
        return [f"The model is made for a {guard.axis} of at most {most}: beyond, nothing is proven."]
    follows = guard.axis not in found.lengths  # from other axes: it cannot be given a length of its own
    bytes_given = sum(array.nbytes for array in found.example.at(found.lengths).values())
    if follows or bytes_given * guard.broken_at > _MOST_BYTES:
        return [f"It holds where {guard.text}; it could not be tried where that is not so."]
    places = guard.broken_at - 1
    is_limit = guard.is_limit and places > found.lengths[guard.axis]
    # where the file has no more places, as in a table that grows in PyTorch, it runs at no length beyond
    beyond = (guard.broken_at, 2 * places, places + found.scale, (places // _ROUND + 1) * _ROUND)
    refused = 0
    for length in dict.fromkeys(beyond if is_limit else beyond[:1]):
        if bytes_given * length > _MOST_BYTES:
            continue
        lengths = {**found.lengths, guard.axis: length}
        agrees = _agrees(runtime, reference, found.example.at(lengths), kinds)
        if agrees is False or (agrees is None and not is_limit):
            raise AnotherRoad(
                f"forward() takes another road where {guard.axis} is {length}: the file would be right only where "
                f"{guard.text}.",
                f"Write forward() without a branch on the length of {guard.axis}.",
                lengths,
            )
        refused += agrees is None
    if refused:
        longest[guard.axis] = places
        return [f"The file takes a {guard.axis} of at most {places}: beyond, where PyTorch runs, it does not."]
    return []


def _agrees(runtime: OrtRuntime, reference: Reference, arrays: Arrays, kinds: Mapping[str, Kind]) -> bool | None:
    """Whether the file gives what PyTorch gives, or PyTorch does not run; None where the file does not."""
    try:
        wanted = reference.run(feeds := reference.fed(arrays))
    except (DoesNotRun, NotAvailable):  # the same limits as the module's
        return True
    try:
        return _compared(wanted, feeds, runtime, reference, kinds).passed
    except RunFailed:
        return None


def _compared(
    wanted: Arrays, feeds: Arrays, runtime: OrtRuntime, reference: Reference, kinds: Mapping[str, Kind]
) -> Comparison:
    got = run(runtime, feeds)
    if len(wanted) != len(got):
        raise NotExportable(
            f"forward() returns {len(wanted)} tensors at one size and {len(got)} at another.",
            "Let it return as many at every size.",
        )
    wanted = dict(zip(got, wanted.values(), strict=True))  # where nobody named them, under the file's own names
    samples = max((len(array) for array in feeds.values() if array.ndim), default=1)
    return compare([wanted], [got], precision=reference.precision, samples=samples, kinds=kinds)


def _require(found: Comparison, lengths: Mapping[str, int], feeds: Arrays) -> None:
    if not found.passed:
        at = _at(lengths)
        raise Unlike(
            feeds,
            f"Parity failed: the export{' at ' + at if at else ''} does not agree with PyTorch: {found.why} ({found}).",
            "No file was written. Another --opset may help, or real inputs with --samples.",
        )


def _at(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {length}" for name, length in lengths.items())
