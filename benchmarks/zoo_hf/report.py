"""The tables of the zoo: how many came out how, and each that did not come out right, with its reason."""

from collections import Counter

from benchmarks.kept_rows import Row
from toolchain.bench.report import markdown_table

NNX, OTHER = "nnx", "transformers.exporters"
KINDS = ("right", "refused", "no file", "wrong", "fault")


def table(rows: list[Row]) -> str:
    """The counts of each exporter, then a line for each type that either did not get right."""
    lines = []
    for exporter in (NNX, OTHER):
        own = [row for row in rows if row["exporter"] == exporter]
        counts = Counter(row["kind"] for row in own)
        lines.append([exporter, str(len(own)), *(str(counts[kind]) for kind in KINDS)])
    reasons = [
        f"- {row['type']}, {row['exporter']}, {row['kind']}: {row['why']}"
        for row in sorted(rows, key=lambda row: (row["exporter"], row["type"]))
        if row["kind"] != "right"
    ]
    parts = [markdown_table(["exporter", "types tried", *KINDS], lines), "\n".join(reasons)]
    return "\n\n".join(part for part in parts if part)
