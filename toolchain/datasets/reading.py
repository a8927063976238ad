"""How samples are read that do not lie in memory: what the command line says of it, for whoever reads."""

from contextvars import ContextVar

MAX_BAD: ContextVar[int] = ContextVar("max_bad", default=0)
"""``--max-bad``: how many samples that cannot be read may be skipped."""
WORKERS: ContextVar[int | None] = ContextVar("workers", default=None)
"""``--workers``: how many threads read; None for as many as there are cores."""
