"""How the library tells whoever listens what it is doing; the commands listen with :mod:`toolchain.console`."""

from types import TracebackType


class Bar:
    """The progress of one long step. This one is silent."""

    def advance(self, amount: int = 1, **figures: str) -> None:
        """``amount`` more is done; ``figures`` are shown beside the bar."""

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The step is over."""


class Progress:
    """Notes and bars. This one is silent: the default for callers of the library."""

    def note(self, text: str) -> None:
        """One finished fact worth a line."""

    def warn(self, text: str) -> None:
        """Something the user should know, once."""

    def bar(self, title: str, total: int) -> Bar:
        """A long step of ``total`` parts begins."""
        return Bar()


SILENT = Progress()
