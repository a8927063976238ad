"""The table of what came out, by part, and the names of what is wrong or broken."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.hard.verdicts import Kind, Verdict
from toolchain.bench.report import markdown_table

BAD = (Kind.WRONG, Kind.FAULT)


def table(found: Sequence[Verdict], seconds: dict[str, float]) -> str:
    rows = []
    for part, took in seconds.items():
        own = [verdict for verdict in found if verdict.part == part]
        counts = Counter(verdict.kind for verdict in own)
        rows.append([part, str(len(own)), *(str(counts[kind]) for kind in Kind), f"{took / 60:.1f}"])
    return markdown_table(["part", "runs", *Kind, "minutes"], rows)


def bad_ones(found: Sequence[Verdict]) -> str:
    """A line for each wrong result and fault, alike ones together."""
    lines = []
    for verdict in sorted((v for v in found if v.kind in BAD), key=lambda v: (v.part, v.kind, v.why, v.name)):
        lines.append(f"{verdict.kind}  {verdict.part}  {verdict.name}: {verdict.why}\n       {verdict.command}")
    return "\n".join(lines)


def keep(path: Path, found: Sequence[Verdict], seconds: dict[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"seconds": seconds, "verdicts": [asdict(verdict) for verdict in found]}
    path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
