"""Which row leads, which others it is not surely ahead of, and what rows are called beside each other."""

from collections.abc import Sequence

from toolchain.bench.figures import is_proven
from toolchain.bench.group import speedup
from toolchain.bench.record import LOCAL, Circumstances, Row


def fastest(rows: Sequence[Row]) -> Row | None:
    """The proven row with the largest speed-up of ``rows``, all in the same circumstances; the baseline's is 1."""
    proven = [row for row in rows if is_proven(row)]
    return max(proven, key=lambda row: row.speedup.estimate if row.speedup else 1.0, default=None)


def level_with(best: Row, rows: Sequence[Row]) -> list[Row]:
    """The proven rows, the fastest first, than which ``best`` is not surely faster."""
    others = [row for row in rows if is_proven(row) and row.name != best.name and not speedup(row, best).low > 1]
    return sorted(others, key=lambda row: row.speedup.estimate if row.speedup else 1.0, reverse=True)


def called(row: Row, among: Sequence[Row]) -> str:
    """The row's name, without where it ran if all that ran did so there."""
    places = {(each.setting.where, each.setting.python) for each in among if each.rounds_ms}
    return row.name if len(places) > 1 else row.candidate.label + (" again" if row.repeats else "")


def titled(circumstances: Circumstances, among: Sequence[Row]) -> str:
    """The circumstances, with this machine's name too where others have rows."""
    elsewhere = any(row.setting.host for row in among)
    return f"{circumstances} on {LOCAL}" if elsewhere and circumstances.host is None else str(circumstances)
