"""Samples that are read when they are asked for: any number of them takes the memory of a few batches.

Threads read and decode, for Pillow, zlib and the disk work outside Python's lock; a batch that is asked for was begun
while the ones before it were trained on, and never more than a few are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from toolchain.datasets import reading
from toolchain.datasets.bad_samples import BadSample, BadSamples
from toolchain.errors import BadUsage
from toolchain.machine import usable_cores

Rows = npt.NDArray[np.int64]
Sample = tuple[Any, Any]
"""(input, target), each a value, or several in a dict by name."""
_AHEAD = 2
"""Batches that are read while one is used."""
_AT_ONCE = 64
"""Samples of a batch where nobody says how many."""
_PARTS = 4
"""In how many pieces a worker does its share of a batch: so that none waits for the slowest picture."""


class Store(Protocol):
    """Where samples lie, and how one of them is read; threads read at once."""

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """The target of every row where it is one class number, which the index knows; else None."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> Sample:
        """Raises BadSample for one that cannot be had."""


class OnDemand:
    """The chosen ``rows`` of a store, in this order. A bad one is skipped: the next good one here stands in its place.

    So a bad sample shifts no other one, every step has its number of samples, and which stands in follows from the
    files alone, whatever the order of an epoch and the number of processes.
    """

    def __init__(self, store: Store, rows: Rows, bad: BadSamples) -> None:
        self._store, self._rows, self._bad = store, rows, bad
        self._bad_places = set[int]()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Those of the rows, where the store knows them."""
        return None if self._store.labels is None else self._store.labels[self._rows]

    def rows(self, chosen: Rows) -> "OnDemand":
        """Only these."""
        return OnDemand(self._store, self._rows[chosen], self._bad)

    def sample(self, place: int) -> Sample:
        """The sample there, or the one that stands in for it. BadUsage for more bad ones than may be."""
        for step in range(len(self)):
            here = (place + step) % len(self)
            if here in self._bad_places:
                continue
            try:
                return self._store.read(int(self._rows[here]))
            except BadSample as error:
                self._bad_places.add(here)
                self._bad.add([str(error)])
        raise BadUsage("No sample of a split of the data can be read.", "Look at the files.")

    def ahead(self, batches: Iterable[Rows]) -> Iterator[tuple[Rows, list[Sample]]]:
        """Each batch of places with its samples, in their order; a few batches are read ahead of the one given out."""
        yield from self._ahead(batches, self._with_stand_ins)

    def good(self) -> Iterator[Sample]:
        """All that can be read, in their order; nothing stands in for the others."""
        batches = (np.arange(start, min(start + _AT_ONCE, len(self))) for start in range(0, len(self), _AT_ONCE))
        for _, samples in self._ahead(batches, self._without_bad):
            yield from samples

    def _ahead(
        self, batches: Iterable[Rows], read: Callable[[Rows], list[Sample]]
    ) -> Iterator[tuple[Rows, list[Sample]]]:
        workers = reading.WORKERS.get() or usable_cores()
        waiting = deque[tuple[Rows, list[Future[list[Sample]]]]]()

        def done() -> tuple[Rows, list[Sample]]:
            rows, parts = waiting.popleft()
            return rows, [sample for part in parts for sample in part.result()]

        with ThreadPoolExecutor(workers, thread_name_prefix="nnx-reader") as pool:
            try:
                for rows in batches:
                    pieces = np.array_split(rows, max(1, min(len(rows), _PARTS * workers)))
                    waiting.append((rows, [pool.submit(read, piece) for piece in pieces]))
                    # of batches of few samples more are begun, so that every worker has some
                    if len(waiting) > _AHEAD and sum(len(parts) for _, parts in waiting) > _PARTS * workers:
                        yield done()
                while waiting:
                    yield done()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _with_stand_ins(self, places: Rows) -> list[Sample]:
        return [self.sample(int(place)) for place in places]

    def _without_bad(self, places: Rows) -> list[Sample]:
        found = []
        for row in self._rows[places]:
            try:
                found.append(self._store.read(int(row)))
            except BadSample as error:
                self._bad.add([str(error)])
        return found


class Half:
    """The inputs of samples on demand (``which`` 0), or their targets (1), as a column of a split."""

    def __init__(self, samples: OnDemand, which: int) -> None:
        self.samples, self._which = samples, which

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Any:
        return self.samples.sample(place)[self._which]
