"""`make hard`: every part, or those named; exit code 1 where anything is wrong or broken."""

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.hard import (
    cases,
    exports,
    faults,
    hostile_files,
    hostile_packages,
    mutated_models,
    operator_tests,
    report,
    runs,
)
from benchmarks.hard.verdicts import Verdict

_SEED = 9


def _parts(
    options: argparse.Namespace,
) -> dict[str, Callable[[], tuple[Callable[[Any], list[Verdict]], Sequence[Any]]]]:
    """By name: what judges one thing, and the things; made only when the part's turn comes."""
    parts: dict[str, Callable[[], tuple[Callable[[Any], list[Verdict]], Sequence[Any]]]] = {}
    if options.cases:
        parts["cases"] = lambda: (cases.of_script, cases.scripts(options.cases, large=options.large))
        parts["exports"] = lambda: (exports.of_script, exports.scripts(options.cases, large=options.large))
    parts["operators"] = lambda: (operator_tests.of_name, operator_tests.names())
    parts[mutated_models.PART] = lambda: (mutated_models.of_seed, range(mutated_models.COUNT))
    parts[hostile_files.PART] = lambda: (hostile_files.of_seed, range(hostile_files.COUNT))
    parts[hostile_packages.PART] = lambda: (hostile_packages.of_seed, range(hostile_packages.COUNT))
    parts[faults.PART] = lambda: (faults.of_number, range(faults.COUNT))
    return parts


def share_of(things: Sequence[Any], share: float) -> list[Any]:
    """A seeded part of them, in their order; never none."""
    count = max(1, math.ceil(len(things) * share)) if things else 0
    chosen = sorted(random.Random(_SEED).sample(range(len(things)), count))
    return [things[index] for index in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, help="a folder of scripts that write hard models")
    parser.add_argument("--large", action="store_true", help="those of 2.4 GB too, which want 12 GB of memory")
    parser.add_argument("--part", action="append", help="only this one; repeatable")
    parser.add_argument("--share", type=float, default=1.0, help="a seeded share of everything, such as 0.1")
    parser.add_argument("--only", help="only what has this in its name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("artifacts/benchmarks/hard.json"))
    options = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    runs.warm()
    found: list[Verdict] = []
    seconds: dict[str, float] = {}
    for part, make in _parts(options).items():
        if options.part and part not in options.part:
            continue
        started = time.monotonic()
        judge, things = make()
        things = [thing for thing in things if not options.only or options.only in str(thing)]
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("fork")) as lanes:
            for done, each in enumerate(lanes.map(judge, share_of(things, options.share)), 1):
                found += each
                if sys.stderr.isatty():
                    print(f"\r{part}: {done}", end="", file=sys.stderr, flush=True)
        print(f"\r{part}: {len(found)} in all", file=sys.stderr)
        seconds[part] = time.monotonic() - started
        report.keep(options.out, found, seconds)
    print(report.bad_ones(found))
    print(f"\n{report.table(found, seconds)}\n\nAll of it lies in {options.out}.")
    return int(any(verdict.kind in report.BAD for verdict in found))


if __name__ == "__main__":
    raise SystemExit(main())
