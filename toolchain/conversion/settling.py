"""Before an export: the lengths, batch axes and values with which PyTorch itself runs."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from toolchain.conversion.reference import Arrays, DoesNotRun, Reference
from toolchain.errors import BadUsage, NotAvailable
from toolchain.inputs.examples import Example, Kept, MadeUp
from toolchain.inputs.input_specs import BATCH

_TRACED_BATCH = 2
_SCALES = (16, 32, 64, 224, 1024)
"""Lengths of dynamic axes that are tried in turn: some nets want more than 16, some a multiple of 32, those that hear
waves some hundred samples."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """An example that PyTorch runs on at ``lengths``, in ``seconds``, and the dynamic axes of what it returns."""

    example: Example
    lengths: dict[str, int]
    scale: int
    seconds: float
    outputs: Mapping[str, Mapping[int, str]]
    notes: tuple[str, ...]


def settle(module: torch.nn.Module, example: Example, *, judged: bool = True) -> tuple[Reference, Settled]:
    """The reference for ``module``, and what :func:`settled` finds; in half precision where only that runs."""
    reference = Reference.of(module, example.takes)
    try:
        return reference, settled(reference, example, judged=judged)
    except DoesNotRun:
        if not reference.notes:
            raise
        as_it_is = Reference.of(module, example.takes, in_fp32=False)  # forward() has casts of its own
        return as_it_is, settled(as_it_is, example, judged=judged)


def settled(reference: Reference, example: Example, *, judged: bool = True) -> Settled:
    """Find an example that the module takes; raise BadUsage, with PyTorch's first complaint, where there is none.

    Unless ``judged`` is False, state that matters is refused, and samples that influence each other are noted.
    """
    first: DoesNotRun | None = None
    not_a_number: BadUsage | None = None
    for scale in _scales(example):
        for candidate, batch in _candidates(example):
            lengths = _lengths(candidate, scale, batch)
            try:
                found = _tried(reference, candidate, lengths)
            except DoesNotRun as error:
                first = first or error
                continue
            except _NotANumber as error:
                not_a_number = not_a_number or error
                continue
            except NotAvailable as error:  # the memory for such lengths: what shorter ones ended with says more
                raise not_a_number or first or error from None
            given = found.notes if isinstance(found, Kept) else ()
            notes = tuple(given)
            if judged:
                arrays = reference.fed(found.at(lengths))
                notes += (*reference.require_stateless(arrays), *reference.fast_path(arrays))
            if BATCH in _names(example) and BATCH not in lengths:
                none = "" if lengths else "No axis is dynamic: "
                notes += (f"{none}PyTorch does not run at another batch.",)
            started = time.perf_counter()
            reference.run(reference.fed(found.at(lengths)))
            seconds = time.perf_counter() - started
            outputs = moving(reference, found, lengths, scale)
            if BATCH in lengths and judged:
                notes += tuple(reference.coupling(reference.fed(found.at(lengths)), found.axes, outputs))
            return Settled(example=found, lengths=lengths, scale=scale, seconds=seconds, outputs=outputs, notes=notes)
    if not_a_number is not None:
        raise not_a_number
    assert first is not None
    raise first


class _NotANumber(BadUsage):
    pass


def _scales(example: Example) -> Sequence[int]:
    """What to try: the longest alone where one axis has it, for a volume of such sides no machine would hold."""
    others = len(_names(example) - {BATCH})
    return _SCALES[:1] if not others else _SCALES if others == 1 else _SCALES[:-1]


def _tried(reference: Reference, example: Example, lengths: dict[str, int]) -> Example:
    """``example``, with whole numbers as large as the tables that they index, if PyTorch runs on it at two batches."""
    _require_numbers(reference.run(reference.fed(example.at(lengths))), example)
    made_up = isinstance(example, MadeUp) and example.fill is None
    rows = reference.tables(reference.fed(example.at(lengths))) if made_up else {}
    if isinstance(example, MadeUp) and rows:
        wider = replace(example, below=rows)
        try:
            reference.run(reference.fed(wider.at(lengths)))
            example = wider
        except DoesNotRun:  # it means more than a row to this module
            pass
    if BATCH in lengths:
        try:
            reference.run(reference.fed(example.at({**lengths, BATCH: lengths[BATCH] + 1})))
        except DoesNotRun:  # it may want an even one
            reference.run(reference.fed(example.at({**lengths, BATCH: 2 * lengths[BATCH]})))
    return example


def moving(reference: Reference, example: Example, lengths: dict[str, int], scale: int) -> dict[str, dict[int, str]]:
    """Which axes of the outputs change with the inputs' lengths, each named for the one that it equals, if any."""
    first = reference.run(reference.fed(example.at(lengths)))
    found: dict[str, dict[int, str]] = {name: {} for name in first}
    for word, length in lengths.items():
        other = {**lengths, word: length + (1 if word == BATCH else scale)}
        try:
            second = reference.run(reference.fed(example.at(other)))
        except (DoesNotRun, NotAvailable):  # the proof says so
            continue
        for name, value in first.items():
            if name not in second or second[name].ndim != value.ndim:
                continue
            for axis, (before, after) in enumerate(zip(value.shape, second[name].shape, strict=True)):
                if before != after:
                    found[name][axis] = word if (before, after) == (length, other[word]) else f"{name}_{axis}"
    return found


def _candidates(example: Example) -> Iterator[tuple[Example, int]]:
    """``example`` with every idea of which axis of which input is the batch, and how long; last, that none is.

    The batch is short, or else as long as it was given: what indexes it may reach to its end. Made-up whole numbers are
    tried besides, for those that a module takes.
    """
    first_lengths = example.first_lengths()
    own = next(iter(first_lengths.values()), 0) if isinstance(example, Kept) else 0
    for batch in (_TRACED_BATCH, own) if own > _TRACED_BATCH else (_TRACED_BATCH,):
        for candidate in _placed(example):
            yield candidate, batch
            if isinstance(candidate, MadeUp) and any(
                "int" in spec.dtype or spec.dtype == "bool" for spec in candidate.specs
            ):
                yield replace(candidate, fill=1), batch
                yield replace(candidate, fill=0), batch
    if first_lengths:
        yield example.without_batch(frozenset(first_lengths)), _TRACED_BATCH


def _placed(example: Example) -> Iterator[Example]:
    """``example`` with the batch on other axes, the likeliest first."""
    first_lengths, second_lengths = example.first_lengths(), example.second_lengths()
    leading = next(iter(first_lengths.values()), None)
    others = list(first_lengths)[1:]
    differing = frozenset(name for name in others if first_lengths[name] != leading)
    second = frozenset(name for name in others if second_lengths.get(name) == leading)
    if moved := differing & second:
        yield example.with_batch_second(moved).without_batch(differing - second)
    for names in dict.fromkeys(
        [differing, frozenset[str](), *(frozenset({name}) for name in others), frozenset(others)]
    ):
        yield example.without_batch(names)
    if second:
        yield example.with_batch_second(second)


def _lengths(example: Example, scale: int, batch: int) -> dict[str, int]:
    """One length for each name, no two alike, so that torch.export does not take two axes for one."""
    given: dict[str, int] = {}
    if isinstance(example, Kept):
        given = {
            word: example.arrays[name].shape[axis]
            for name, words in reversed(example.axes.items())
            for axis, word in words.items()
        }
    names = sorted(_names(example) - {BATCH})
    made = {name: given.get(name, scale + place * scale // 2) for place, name in enumerate(names)}
    return ({BATCH: batch} if BATCH in _names(example) else {}) | {
        name: length if length > 1 else 2 for name, length in made.items()
    }


def _names(example: Example) -> set[str]:
    """The dynamic axes whose lengths may be chosen."""
    follow = set(example.follows) if isinstance(example, Kept) else set()
    return {word for words in example.axes.values() for word in words.values()} - follow


def _require_numbers(outputs: Arrays, example: Example) -> None:
    """NaN on real inputs may be the model's answer; on noise it proves nothing."""
    for name, value in outputs.items():
        if isinstance(example, MadeUp) and np.issubdtype(value.dtype, np.inexact) and np.isnan(value).any():
            raise _NotANumber(
                f"The model gives NaN on random inputs, in '{name}'.", "Give real ones with --samples FILE.npz."
            )
