"""`make zoo-timm`: exit code 1 where fewer than 98 % of the models drawn come out right, or any comes out wrong."""

import argparse
import math
import os
import random
from collections import Counter
from contextlib import closing
from pathlib import Path

from benchmarks import pieces
from benchmarks.hard.verdicts import Kind
from benchmarks.kept_rows import KeptRows, Row, code_digest
from benchmarks.results import OUT
from benchmarks.zoo_timm import environment, job, judging
from toolchain.bench.report import markdown_table

_SEED, _COUNT = 1, 150
_LEAST_SHARE = 0.98
_FOLDER = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where timm is kept between runs")
    parser.add_argument("--all", action="store_true", help="every name of timm's, not a sample")
    parser.add_argument("--share", type=float, default=1.0, help="a share of the sample, such as 0.1")
    parser.add_argument("--only", help="only what has this in its name")
    parser.add_argument("--seconds", type=float, default=300.0, help="the longest that one model may take")
    pieces.ray_option(parser)
    parser.add_argument("--any-code", action="store_true", help="keep rows that an earlier state of nnx made")
    parser.add_argument("--out", type=Path, default=OUT / "zoo-timm.json", help="goes on where it stopped")
    options = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if why := environment.bring(options.folder.resolve()):
        print(f"Left out: {why}.")
        return 0
    kept = KeptRows(options.out, "model", code_digest(_FOLDER), table, of_any_code=options.any_code)
    wanted = math.inf if options.all else max(1, math.ceil(_COUNT * options.share))
    names, known = _names(options.only), {row["model"]: row for row in kept.rows}
    spec = {"folder": str(options.folder.resolve()), "seconds": options.seconds}
    left = (name for name in names if name not in known)
    tried = 0
    with closing(pieces.judged(job.__name__, spec, left, ray=options.ray)) as fresh:
        for name in names:
            if tried >= wanted:
                break
            if name not in known:
                (known[name],) = next(fresh)
                kept.add([known[name]])
                print(f"{name}: {known[name]['kind']} {known[name]['why']}", flush=True)
            tried += judging.is_tried(known[name])
    rows = [row for row in kept.rows if judging.is_tried(row)]
    print(f"\n{table(kept.rows)}\n\nAll of it lies in {options.out}.")
    enough = sum(map(judging.is_right, rows)) >= _LEAST_SHARE * len(rows)
    return int(not enough or any(row["kind"] in (Kind.WRONG, Kind.FAULT) for row in rows))


def _names(only: str | None) -> list[str]:
    """timm's architectures in an order that a seed gives."""
    import timm

    names: list[str] = timm.list_models()
    random.Random(_SEED).shuffle(names)
    return [name for name in names if not only or only in name]


def table(rows: list[Row]) -> str:
    """The counts, then each that is not right."""
    tried = [row for row in rows if judging.is_tried(row)]
    counts = Counter(row["kind"] for row in tried)
    head = ["models tried", *Kind, f"over {judging.MOST_PARAMETERS // 10**6} M parameters, passed over"]
    line = [str(len(tried)), *(str(counts[kind]) for kind in Kind), str(len(rows) - len(tried))]
    reasons = [f"- {row['model']}, {row['kind']}: {row['why']}" for row in tried if not judging.is_right(row)]
    return "\n\n".join(filter(None, [markdown_table(head, [line]), "\n".join(reasons)]))


if __name__ == "__main__":
    raise SystemExit(main())
