"""What a client is told instead of an answer."""

from collections.abc import Mapping

_MOST_CHARACTERS = 400  # what a client sent is told back to it, whatever its length


class Refusal(Exception):
    """A status of HTTP, one sentence, and headers that go with it."""

    def __init__(self, status: int, what: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.what = what if len(what) <= _MOST_CHARACTERS else f"{what[: _MOST_CHARACTERS - 1]}…"
        self.headers = dict(headers or {})
