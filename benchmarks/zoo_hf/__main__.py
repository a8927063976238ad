"""`make zoo-hf`: exit code 1 where nnx gets fewer than 95 % of the types right, or any wrong."""

import argparse
import math
import os
import random
from pathlib import Path

from benchmarks import pieces
from benchmarks.kept_rows import KeptRows, code_digest
from benchmarks.results import OUT
from benchmarks.zoo_hf import job, report
from benchmarks.zoo_hf.types import TYPES, Type

_SEED = 10
_LEAST_SHARE = 0.95
_FOLDER = Path(__file__).resolve().parent


def _chosen(share: float, only: str | None) -> list[Type]:
    """In an order that a seed gives, so that what an interrupted run has done is a sample too."""
    shuffled = random.Random(_SEED).sample(TYPES, len(TYPES))
    names = only.split(",") if only else []
    return [kind for kind in shuffled[: math.ceil(len(shuffled) * share)] if not names or kind.name in names]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="a share of the types, such as 0.1")
    parser.add_argument("--only", help="these types, separated by commas")
    parser.add_argument("--alone", action="store_true", help="nnx alone, without transformers' own exporter beside it")
    pieces.ray_option(parser)
    parser.add_argument("--any-code", action="store_true", help="keep rows that an earlier state of nnx made")
    parser.add_argument("--out", type=Path, default=OUT / "zoo-hf.json", help="goes on where it stopped")
    options = parser.parse_args()
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    kept = KeptRows(options.out, "name", code_digest(_FOLDER), report.table, of_any_code=options.any_code)
    chosen = _chosen(options.share, options.only)
    exporters = (report.NNX,) if options.alone else (report.NNX, report.OTHER)
    done = {(row["type"], row["exporter"]) for row in kept.rows}
    left = [(kind.name, by) for by in exporters for kind in chosen if (kind.name, by) not in done]
    for rows in pieces.judged(job.__name__, {}, left, ray=options.ray):
        kept.add(rows)
        for row in rows:
            print(f"{row['name']}: {row['kind']} {row['why']}", flush=True)
    rows = [row for row in kept.rows if row["type"] in {kind.name for kind in chosen}]
    print(f"\n{report.table(rows)}\n\nAll of it lies in {options.out}.")
    kinds = [row["kind"] for row in rows if row["exporter"] == report.NNX]
    enough = kinds.count("right") >= math.floor(_LEAST_SHARE * len(kinds))
    return int(not enough or "wrong" in kinds or "fault" in kinds)


if __name__ == "__main__":
    raise SystemExit(main())
