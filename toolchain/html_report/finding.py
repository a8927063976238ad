"""What a benchmark found, in a sentence and a few figures: the page begins with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolchain import report
from toolchain.bench_record import Benchmark, Circumstances, Row


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``sentence`` for the top of the page; ``figures`` are (name, value, what to compare it with)."""

    sentence: str
    figures: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The rows that were measured in the same circumstances; ``key`` is unique in the page."""

    key: str
    circumstances: Circumstances
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        text = str(self.circumstances)
        return text[:1].upper() + text[1:]

    @property
    def timed(self) -> list[Row]:
        """The rows that ran, proven or not."""
        return [row for row in self.rows if row.rounds_ms]

    @property
    def fastest(self) -> Row | None:
        """The proven row with the largest speed-up."""
        proven = [row for row in self.timed if row.status == "ok" and not row.repeats]
        return max(proven, key=lambda row: row.speedup.estimate if row.speedup else 1.0, default=None)


def panels(benchmark: Benchmark) -> list[Panel]:
    """One for all circumstances, in the order of the rows."""
    return [
        Panel(
            key=f"p{number}",
            circumstances=where,
            rows=tuple(row for row in benchmark.rows if row.setting.circumstances == where),
        )
        for number, where in enumerate(dict.fromkeys(row.setting.circumstances for row in benchmark.rows), 1)
    ]


def called(row: Row, among: Sequence[Row]) -> str:
    """The row's name, without what all rows that ran have in common."""
    if len({(each.setting.where, each.setting.python) for each in among if each.rounds_ms}) > 1:
        return row.name
    return row.candidate.label + (" again" if row.repeats else "")


def cell(row: Row, heading: str) -> str:
    """One cell of the bench table."""
    return report.cells(row)[report.HEADINGS.index(heading)]


def finding(panel: Panel, among: Sequence[Row]) -> Finding:
    """What the rows of ``panel`` say."""
    best = panel.fastest
    if best is None:
        return Finding(sentence="No row ran and was proven. What went wrong stands below the table.")
    base = next((row for row in panel.rows if row.name == best.baseline), None)
    name = called(best, among)
    if base is None or best.speedup is None:
        sentence = f"{name} is the fastest proven row"
    else:
        faster = "times the throughput of" if panel.circumstances.concurrency > 1 else "times as fast as"
        sentence = f"{name} is {cell(best, 'speed-up').split('x')[0]} {faster} {called(base, among)}"
    return Finding(
        sentence=f"{sentence}{_kept(best)}, at {panel.circumstances}.",
        figures=tuple(_figures(best, base, called(base, among) if base else "")),
    )


def _kept(row: Row) -> str:
    """What of the accuracy is left, as the end of a sentence."""
    if row.drop is None:
        return ""
    if not row.drop.excludes(0.0):
        return " and loses no accuracy that could be measured"
    points = abs(row.drop.estimate) * 100
    return f" and {'loses' if row.drop.estimate > 0 else 'gains'} {points:.2f} points of accuracy"


def _figures(best: Row, base: Row | None, over: str) -> list[tuple[str, str, str]]:
    shown = []
    if best.speedup is not None:
        value, _, interval = cell(best, "speed-up").partition(" ")
        shown.append(("Speed-up", value, f"95 % interval {interval.strip('()')}" if interval else "no interval"))
    slower = f"{cell(base, 'p50 ms')} ms for {over}" if base and base is not best and base.rounds_ms else ""
    shown.append(("Median latency", f"{cell(best, 'p50 ms')} ms", slower))
    if best.drop is not None:
        ends = f"95 % interval {_points(best.drop.low)} to {_points(best.drop.high)}"
        shown.append(("Accuracy lost", f"{_points(best.drop.estimate)} points", ends))
    elif best.accuracy is not None:
        value, _, half = cell(best, "accuracy").partition(" ")
        shown.append(("Accuracy", value, f"{half} points"))
    bytes_before = f"{cell(base, 'size MB')} MB for {over}" if base and base is not best and base.rounds_ms else ""
    shown.append(("Size", f"{cell(best, 'size MB')} MB", bytes_before))
    return shown


def _points(share: float) -> str:
    """A share in points, with a true minus and no minus before zero."""
    text = f"{share * 100:.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")
