"""What a client is told instead of an answer."""

from collections.abc import Mapping


class Refusal(Exception):
    """A status of HTTP, one sentence, and headers that go with it."""

    def __init__(self, status: int, what: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.headers = dict(headers or {})
