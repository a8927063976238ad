"""What a process that is gone said last."""

from typing import IO

_MOST_READ = 4_000


def of(said: IO[bytes]) -> str:
    """The last line of what it wrote, after a colon and without a full stop, to end a sentence; empty for none."""
    said.seek(0)
    lines = said.read(_MOST_READ).decode(errors="replace").strip().splitlines()
    return f": {lines[-1].strip().rstrip('.')}" if lines else ""
