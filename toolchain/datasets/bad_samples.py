"""Samples that cannot be read: named, counted, and skipped up to a number that the user gives."""

import threading
from collections.abc import Iterable

from toolchain.datasets import reading
from toolchain.errors import BadUsage

_SHOWN = 3


class BadSample(Exception):
    """One sample cannot be had; the message names its file, and what is wrong, without a full stop."""


class BadSamples:
    """What was skipped of one data set; the one after ``most``, by default ``--max-bad``, raises BadUsage.

    Threads may share it.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = reading.MAX_BAD.get() if most is None else most
        self._found = set[str]()
        self._lock = threading.Lock()

    @property
    def found(self) -> tuple[str, ...]:
        """Each in words, sorted: in whatever order they were met."""
        with self._lock:
            return tuple(sorted(self._found))

    def add(self, texts: Iterable[str]) -> None:
        """These too; what was met before counts once."""
        with self._lock:
            self._found.update(texts)
            count = len(self._found)
        if count <= self.most:
            return
        if count == 1:
            (text,) = self.found
            raise BadUsage(f"{text}.", "Mend or remove it, or let --max-bad say how many may be skipped.")
        raise BadUsage(
            f"{count:,} samples cannot be read, more than --max-bad {self.most}: {_listed(self.found)}.",
            "Mend or remove them, or raise --max-bad.",
        )

    def __str__(self) -> str:
        count = len(self.found)
        samples = "1 sample was" if count == 1 else f"{count:,} samples were"
        return f"{samples} skipped, the next one taken instead: {_listed(self.found)}."


def _listed(texts: tuple[str, ...]) -> str:
    more = f"; and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more
