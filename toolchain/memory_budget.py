"""How much of what a user's file holds may be unpacked into memory: a small file may say that it is endless."""

from contextvars import ContextVar

BYTES: ContextVar[int] = ContextVar("memory_budget", default=2 * 10**9)
"""``--memory-budget``, or its default."""
