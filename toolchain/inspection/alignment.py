"""Which input of one of two matched operations is which of the other."""

import itertools
from collections.abc import Iterator

from toolchain.inspection.matching import Matching, commutes
from toolchain.inspection.operations import Operation, Source

UNMATCHED = ("unmatched",)
Aligned = tuple[int, Source | None, Source | None]


def aligned(matching: Matching, a: Operation, b: Operation) -> Iterator[Aligned]:
    """(Which source, in the first, in the second): by their places, or where these do not matter as they fit."""
    if not (commutes(a) and commutes(b)):
        for place, (old, new) in enumerate(itertools.zip_longest(a.sources, b.sources)):
            yield place, old, new
        return
    left, right = list(enumerate(a.sources)), list(b.sources)
    for alike in (_is_same, _is_like):
        for place, old in list(left):
            found = next((new for new in right if alike(matching, old, new)), None)
            if found is not None:
                left.remove((place, old))
                right.remove(found)
                yield place, old, found
    for rest, new in itertools.zip_longest(left, right):
        yield (-1, None, new) if rest is None else (*rest, new)


def _is_same(matching: Matching, old: Source | None, new: Source | None) -> bool:
    if old is not None and new is not None and old.weight and new.weight:
        return matching.a.digest_of([old.tensor]) == matching.b.digest_of([new.tensor])
    return as_in_b(matching, old) == in_b(matching, new) != UNMATCHED


def _is_like(matching: Matching, old: Source | None, new: Source | None) -> bool:
    return old is not None and new is not None and old.weight and new.weight


def as_in_b(matching: Matching, old: Source | None) -> tuple[object, ...]:
    """What a source of the first model is in the second."""
    if old is None or old.maker is None:
        return _unmade(old)
    return matching.twin(old) or UNMATCHED


def in_b(matching: Matching, new: Source | None) -> tuple[object, ...]:
    if new is None or new.maker is None:
        return _unmade(new)
    return matching.made_by(new) or UNMATCHED


def _unmade(source: Source | None) -> tuple[object, ...]:
    return ("nothing",) if source is None else ("weight",) if source.weight else ("given", source.given)
