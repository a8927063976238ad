"""What waits together runs in one call, where the model has a batch axis; each gets its own rows back."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolchain.serving.tensors import Array

Feeds = Mapping[str, Array]
Outputs = Mapping[str, Array]
Start = Callable[[Feeds], tuple[Callable[[], Outputs], Callable[[], None]]]
"""What makes a call of the model, and what ends it while it runs."""
Done = Callable[[Outputs | Exception], None]


@dataclass(eq=False)
class Waiting:
    """One call that waits, or runs."""

    feeds: Feeds
    done: Done
    rows: int
    alike: tuple[tuple[int, ...], ...] | None
    """The shapes without the batch: only what is alike runs together, and None with nothing."""
    since_s: float = field(default_factory=time.monotonic)
    cancelled: bool = False


class Batcher:
    """Threads that run what is submitted, oldest first, ``most_rows`` in one call at most; 1 runs each call alone.

    A call that is alone waits up to ``delay_s`` for company; without it, calls come together only while others run.
    What comes with more rows of its own is run as it came. Where a call of several fails, each of them runs alone: what
    is wrong with one is not the others' fault. What was cancelled does not run any more, and a call that runs ends
    when all those in it were cancelled. ``done`` is called in one of the threads, and not for what was cancelled.
    """

    def __init__(self, start: Start, *, most_rows: int, delay_s: float = 0.0, threads: int = 1) -> None:
        self._start = start
        self._most_rows = most_rows
        self._delay_s = delay_s if most_rows > 1 else 0.0
        self._waiting: deque[Waiting] = deque()
        self._running: dict[Waiting, _Running] = {}
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

    def cancel(self, entry: Waiting) -> None:
        """Nobody waits for it any more, if anybody did."""
        with self._changed:
            entry.cancelled = True
            running = self._running.get(entry)
            if running is not None and all(each.cancelled for each in running.batch):
                running.stop()

    def close(self) -> None:
        """Run what waits, and end; a second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
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
                parts = _split(self._run(batch, _joined(batch)), [entry.rows for entry in batch])
            except Exception:  # noqa: BLE001 - whatever one of them brought about; alone each shows its own
                pass
            else:
                for entry, part in zip(batch, parts, strict=True):
                    self._tell(entry, part)
                return
        for entry in batch:
            try:
                outcome: Outputs | Exception = self._run([entry], entry.feeds)
            except Exception as error:  # noqa: BLE001 - the thread goes on, and who asked is told
                outcome = error
            self._tell(entry, outcome)

    def _run(self, batch: Sequence[Waiting], feeds: Feeds) -> Outputs:
        call, stop = self._start(feeds)
        with self._changed:
            if all(entry.cancelled for entry in batch):
                raise _Cancelled
            running = _Running(batch, stop)
            self._running |= dict.fromkeys(batch, running)
        try:
            return call()
        finally:
            with self._changed:
                for entry in batch:
                    del self._running[entry]

    def _tell(self, entry: Waiting, outcome: Outputs | Exception) -> None:
        if not entry.cancelled:
            entry.done(outcome)


@dataclass(frozen=True)
class _Running:
    """A call that runs now."""

    batch: Sequence[Waiting]
    stop: Callable[[], None]


class _Cancelled(Exception):
    """Nobody waits for it."""


def _joined(batch: Sequence[Waiting]) -> Feeds:
    return {name: np.concatenate([entry.feeds[name] for entry in batch]) for name in batch[0].feeds}


def _split(outputs: Outputs, rows: Sequence[int]) -> list[dict[str, Array]]:
    """Each one's part of ``outputs``; raise ValueError where they have not as many rows as went in."""
    ends = np.cumsum(rows)
    if any(array.ndim == 0 or len(array) != ends[-1] for array in outputs.values()):
        raise ValueError("the outputs have other rows than the inputs")
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for end, count in zip(ends.tolist(), rows, strict=True)
    ]
