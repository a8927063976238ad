"""The pieces of a long benchmark, each in a warm process that forks: one after the other, or many at once on Ray.

A worker of Ray has threads, and what is forked from it may wait for ever; so each keeps a process of its own, which has
imported everything and opened no session. Its job is a module with ``open_job(**spec)``, whose result has ``rows``.
"""

import argparse
import json
import signal
from collections.abc import Generator, Iterable
from typing import Any

from benchmarks.kept_rows import Row
from toolchain.processes import ray_cluster, workers
from toolchain.processes.turns import Turn
from toolchain.processes.workers import Shared

_SECONDS = 4 * 3600.0
"""A piece has limits of its own, a command each; this one is for a process that hangs."""


def ray_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--ray``."""
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="judge many at once, one a core, on this Ray cluster, or auto for one here"
    )


def judged(job: str, spec: dict[str, Any], pieces: Iterable[Any], *, ray: str | None) -> Generator[list[Row]]:
    """The rows of each of ``pieces``, plain JSON each, in their order; no more are begun than keep all workers busy."""
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        with workers.here() if ray is None else ray_cluster.joined(ray) as group:
            yield from workers.in_order(group, _rows, group.share((job, json.dumps(spec))), pieces)
    finally:
        while _opened:
            _opened.popitem()[1].close()
        signal.signal(signal.SIGTERM, before)


def _ended(number: int, frame: object) -> None:
    """So that what was begun is tidied away, a cluster of Ray with it."""
    raise SystemExit(128 + number)


_opened: dict[tuple[str, str], Turn] = {}
"""This process's; a worker of Ray has its own, whose pipe ends with it."""


def _rows(shared: Shared[tuple[str, str]], piece: Any) -> list[Row]:
    if (turn := _opened.get(shared.value)) is None:
        job, spec = shared.value
        turn = _opened[shared.value] = Turn(job, json.loads(spec), threads=1, timeout_s=_SECONDS)
        turn.open()
    found: list[Row] = turn.ask("rows", piece=piece)
    return found
