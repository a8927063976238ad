"""What waits together runs in one call, where the model has a batch axis; each gets its own rows back."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolchain.serving.tensors import Array

Feeds = Mapping[str, Array]
Run = Callable[[Feeds], Mapping[str, Array]]
Done = Callable[[Mapping[str, Array] | Exception], None]


@dataclass(eq=False)
class Waiting:
    """One call that waits. ``cancel`` it, and it is not run any more, unless it runs already."""

    feeds: Feeds
    done: Done
    rows: int
    alike: tuple[tuple[int, ...], ...] | None
    """The shapes without the batch: only what is alike runs together, and None with nothing."""
    since_s: float = field(default_factory=time.monotonic)
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Batcher:
    """Threads that run what is submitted, oldest first, ``most_rows`` in one call at most; 1 runs each call alone.

    A call that is alone waits up to ``delay_s`` for company; without it, calls come together only while others run.
    What comes with more rows of its own is run as it came. Where a call of several fails, each of them runs alone: what
    is wrong with one is not the others' fault. ``done`` is called in one of the threads.
    """

    def __init__(self, run: Run, *, most_rows: int, delay_s: float = 0.0, threads: int = 1) -> None:
        self._run = run
        self._most_rows = most_rows
        self._delay_s = delay_s if most_rows > 1 else 0.0
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, feeds: Feeds, done: Done) -> Waiting:
        """Let ``feeds`` be run; ``done`` gets the outputs, or what was raised."""
        entry = Waiting(feeds, done, 1, None)
        if self._most_rows > 1:
            rows = {len(array) for array in feeds.values()}
            entry.rows = max(rows)
            if len(rows) == 1:  # others would move the rows of those after it, and the model refuses it anyhow
                entry.alike = tuple(array.shape[1:] for array in feeds.values())
        with self._changed:
            if self._closed:
                raise RuntimeError("closed")
            self._waiting.append(entry)
            self._changed.notify_all()
        return entry

    def close(self, *, wait: bool = True) -> None:
        """Run what waits, and end; without ``wait``, as soon as what runs has ended. A second call does nothing."""
        with self._changed:
            self._closed = True
            if not wait:
                self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[Waiting]:
        """Those that run next; none at the end."""
        with self._changed:
            while True:
                batch = self._together()
                if not batch:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                left_s = self._delay_s - (time.monotonic() - batch[0].since_s)
                if left_s > 0 and not self._closed and sum(entry.rows for entry in batch) < self._most_rows:
                    self._changed.wait(left_s)
                    continue
                for entry in batch:
                    self._waiting.remove(entry)
                return batch

    def _together(self) -> list[Waiting]:
        """The oldest, and those after it that fit into its call."""
        while self._waiting and self._waiting[0].cancelled:
            self._waiting.popleft()
        batch: list[Waiting] = []
        rows = 0
        for entry in self._waiting:
            if entry.cancelled or (batch and (entry.alike != batch[0].alike or rows + entry.rows > self._most_rows)):
                continue
            batch.append(entry)
            rows += entry.rows
            if rows >= self._most_rows or entry.alike is None:
                break
        return batch

    def _answer(self, batch: Sequence[Waiting]) -> None:
        if len(batch) > 1:
            try:
                parts = _split(self._run(_joined(batch)), [entry.rows for entry in batch])
            except Exception:  # noqa: BLE001 - whatever one of them brought about; alone each shows its own
                pass
            else:
                for entry, part in zip(batch, parts, strict=True):
                    entry.done(part)
                return
        for entry in batch:
            try:
                outcome: Mapping[str, Array] | Exception = self._run(entry.feeds)
            except Exception as error:  # noqa: BLE001 - the thread goes on, and who asked is told
                outcome = error
            entry.done(outcome)


def _joined(batch: Sequence[Waiting]) -> Feeds:
    return {name: np.concatenate([entry.feeds[name] for entry in batch]) for name in batch[0].feeds}


def _split(outputs: Mapping[str, Array], rows: Sequence[int]) -> list[dict[str, Array]]:
    """Each one's part of ``outputs``; raise ValueError where they have not as many rows as went in."""
    ends = np.cumsum(rows)
    if any(array.ndim == 0 or len(array) != ends[-1] for array in outputs.values()):
        raise ValueError("the outputs have other rows than the inputs")
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for end, count in zip(ends.tolist(), rows, strict=True)
    ]
