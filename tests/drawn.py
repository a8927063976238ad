"""Cases that take minutes together: all of them on a developer's machine, a seeded share where CI runs."""

import os
import random
from collections.abc import Collection


def drawn(cases: Collection[str], count: int) -> list[str]:
    """``cases``; under CI ``count`` of them, the same ones each time."""
    return random.Random(0).sample(sorted(cases), count) if os.environ.get("CI") else list(cases)
