"""Which sets of nodes a search asks about, one after the other by the answers so far, and what it may ask next."""

import heapq
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

Nodes = frozenset[str]
_WORTH_A_GUESS = 0.02


@dataclass(frozen=True)
class Question:
    """Does it pass with ``nodes`` in float? ``chance`` is how likely that is, and steers guesses alone."""

    nodes: Nodes
    chance: float


Questions = Generator[Question, bool, None]
"""Asked one after the other; whether it passes is sent in."""


def questions(ranking: Sequence[str]) -> Questions:
    excluded = yield from _shortest_prefix(ranking)
    yield from _prune(excluded)


def _shortest_prefix(ranking: Sequence[str]) -> Generator[Question, bool, list[str]]:
    """The most damaging nodes that must stay in float, if damage adds up: by doubling, then by bisection."""
    fails, passes = -1, 0
    while not (yield Question(frozenset(ranking[:passes]), 0.4)):
        if passes == len(ranking):
            return []
        fails, passes = passes, min(max(1, 2 * passes), len(ranking))
    while passes - fails > 1:
        middle = (fails + passes) // 2
        if (yield Question(frozenset(ranking[:middle]), 0.5)):
            passes = middle
        else:
            fails = middle
    return list(ranking[:passes])


def _prune(excluded: list[str]) -> Questions:
    """Put nodes back to int8, the least damaging first, while the rest still passes.

    One at a time, as most must stay when the ranking is right; each success doubles how many go at once, each failure
    halves it.
    """
    kept, untried, together = set(excluded), excluded[::-1], 1
    while untried:
        block = untried[:together]
        if (yield Question(frozenset(kept.difference(block)), 0.2)):
            kept.difference_update(block)
            untried, together = untried[len(block) :], 2 * together
        elif len(block) > 1:
            together = len(block) // 2
        else:
            untried = untried[1:]


def _next(asking: Questions, passed: Mapping[Nodes, bool]) -> Question | None:
    """The first question that ``passed`` does not answer; None where it answers all."""
    try:
        asked = next(asking)
        while asked.nodes in passed:
            asked = asking.send(passed[asked.nodes])
    except StopIteration:
        return None
    return asked


def ahead(begin: Callable[[], Questions], passed: Mapping[Nodes, bool]) -> Iterator[Nodes]:
    """The questions that may follow what ``passed`` answers, the most likely first; the very next one comes first."""
    numbers = itertools.count()
    worlds = [(-1.0, next(numbers), dict(passed))]
    while worlds:
        chance, _, assumed = heapq.heappop(worlds)
        asked = _next(begin(), assumed)
        if asked is None:
            continue
        yield asked.nodes
        for answer, share in ((True, asked.chance), (False, 1 - asked.chance)):
            if -chance * share > _WORTH_A_GUESS:
                heapq.heappush(worlds, (chance * share, next(numbers), assumed | {asked.nodes: answer}))
