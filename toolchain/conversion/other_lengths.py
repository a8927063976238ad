"""At which lengths of its dynamic axes a file is run beside what it was made of."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from exporters.batch_axes import BatchAxes
from exporters.feeds import Array
from toolchain.inputs import axis_lengths
from toolchain.inputs.examples import Kept
from toolchain.inputs.input_specs import BATCH

PROVEN_BATCHES = (1, 2, 7)
"""Sizes at which a dynamic batch axis is run: 1 and 2 are where exporters specialise, 7 is neither even nor a power."""
_FEW = 2
_STEP = 16


def varied(lengths: Mapping[str, int], batches: Sequence[int], step: int) -> Iterator[dict[str, int]]:
    """``lengths`` at each of ``batches``, then all others longer, by ``step`` and by 3, then each of several alone."""
    if BATCH in lengths:
        yield from ({**lengths, BATCH: size} for size in batches)
    else:
        yield dict(lengths)
    others = [name for name in lengths if name != BATCH]
    if others:
        yield {**lengths, **{name: lengths[name] + step for name in others}}
        yield {**lengths, **{name: lengths[name] + 3 for name in others}}
    if len(others) > 1:
        yield from ({**lengths, name: lengths[name] + 2 * step} for name in others)


def calls_at_others(call: Mapping[str, Array], axes: BatchAxes) -> Iterator[Mapping[str, Array]]:
    """``call`` of a file at other lengths of what it leaves open: what is there repeated or cut.

    Not of a call with a sequence, or with nothing to repeat, in it.
    """
    words, follows = axis_lengths.named(axes)
    if not all(isinstance(array, np.ndarray) and array.size for array in call.values()):
        return
    own = {name: words.get(name, {}) for name in call}
    kept = Kept(takes={}, arrays=call, axes=own, source="the samples", follows=follows)
    lengths = {word: length for word, length in kept.lengths_of(dict(call)).items() if word not in follows}
    if not lengths:
        return
    if BATCH in lengths:
        lengths[BATCH] = _FEW
    for each in varied(lengths, PROVEN_BATCHES, _STEP):
        yield kept.at(each)
