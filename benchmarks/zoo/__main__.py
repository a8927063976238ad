"""`make zoo`: every architecture, or those named, over the road; exit code 1 where anything is wrong or broken."""

import argparse
import os
from pathlib import Path

from benchmarks import pieces
from benchmarks.hard.__main__ import share_of
from benchmarks.kept_rows import KeptRows, code_digest
from benchmarks.results import OUT
from benchmarks.zoo import job, report
from benchmarks.zoo.architectures import ARCHITECTURES, FOLDER


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="a seeded share of them, such as 0.1")
    parser.add_argument("--only", help="only what has this in its name")
    parser.add_argument("--seconds", type=float, default=300.0, help="the longest that one command may take")
    pieces.ray_option(parser)
    parser.add_argument("--any-code", action="store_true", help="keep rows that an earlier state of nnx made")
    parser.add_argument("--out", type=Path, default=OUT / "zoo.json", help="goes on where it stopped")
    options = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    kept = KeptRows(options.out, "architecture", code_digest(FOLDER), report.table, of_any_code=options.any_code)
    chosen = [each.name for each in ARCHITECTURES if not options.only or options.only in each.name]
    left = [name for name in share_of(chosen, options.share) if name not in kept.keys]
    for rows in pieces.judged(job.__name__, {"seconds": options.seconds}, left, ray=options.ray):
        kept.add(rows)
        for row in rows:
            print(f"{row['architecture']} {row['step']}: {row['kind']} {row['why']} ({row['seconds']} s)", flush=True)
    print(f"\n{report.table(kept.rows)}\n\nAll of it lies in {options.out}.")
    return int(any(row["kind"] in report.BAD for row in kept.rows))


if __name__ == "__main__":
    raise SystemExit(main())
