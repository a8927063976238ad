"""How the library tells whoever listens what it is doing; the commands listen with :mod:`toolchain.console`."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class Bar:
    """The progress of one long step. This one is silent."""

    def advance(self, amount: int = 1, **figures: str) -> None:
        """``amount`` more is done; ``figures`` are shown beside the bar."""

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *ignored: object) -> None:
        """The step is over."""


class Board:
    """A table that fills while its rows take turns. This one is silent."""

    def fill(self, row: str, *figures: str) -> None:
        """What is known of ``row`` by now."""

    def advance(self, done: int, planned: int, left_s: float) -> None:
        """So many rounds are done of those planned; the rest will take about ``left_s`` seconds."""

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *ignored: object) -> None:
        """The last round is over."""


class Progress:
    """Notes, bars and boards. This one is silent: the default for callers of the library."""

    def note(self, text: str) -> None:
        """One finished fact worth a line."""

    def warn(self, text: str) -> None:
        """Something the user should know, once."""

    def bar(self, title: str, total: int) -> Bar:
        """A long step of ``total`` parts begins."""
        return Bar()

    @contextmanager
    def rated_bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar of ``total`` samples that also tells their rate; call what it gives with how many more are done."""
        began, done = time.monotonic(), 0
        with self.bar(title, total) as bar:

            def advance(count: int) -> None:
                nonlocal done
                done += count
                bar.advance(count, rate=f"{done / max(time.monotonic() - began, 1e-9):,.0f} samples/s")

            yield advance

    def board(self, title: str, headings: Sequence[str], rows: Sequence[str]) -> Board:
        """Rounds begin in which ``rows`` take turns; ``headings`` name what is filled in for each."""
        return Board()


SILENT = Progress()
