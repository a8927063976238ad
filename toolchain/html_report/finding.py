"""What a benchmark found, in a sentence and a few figures: the page begins with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolchain import pareto, report
from toolchain.bench_record import Benchmark, Circumstances, Row


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``sentence`` for the top of the page; ``figures`` are (name, value, what to compare it with)."""

    sentence: str
    figures: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The rows that were measured in the same circumstances; ``key`` is unique in the page.

    By their names: ``cells`` of the bench table under its headings, what the rows are ``called``, and which are
    ``efficient``. All of it is worked out once, for an interval of a percentile takes 15 ms.
    """

    key: str
    circumstances: Circumstances
    rows: tuple[Row, ...]
    cells: Mapping[str, Mapping[str, str]]
    called: Mapping[str, str]
    efficient: frozenset[str]

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

    def cell(self, row: Row, heading: str) -> str:
        return self.cells[row.name][heading]


def panels(benchmark: Benchmark) -> list[Panel]:
    """One for all circumstances, in the order of the rows."""
    found = []
    for number, where in enumerate(dict.fromkeys(row.setting.circumstances for row in benchmark.rows), 1):
        rows = tuple(row for row in benchmark.rows if row.setting.circumstances == where)
        found.append(
            Panel(
                key=f"p{number}",
                circumstances=where,
                rows=rows,
                cells={row.name: dict(zip(report.HEADINGS, report.cells(row), strict=True)) for row in rows},
                called={row.name: _called(row, benchmark.rows) for row in rows},
                efficient=pareto.efficient(rows),
            )
        )
    return found


def _called(row: Row, among: Sequence[Row]) -> str:
    """The row's name, without what all rows that ran have in common; with a word where it is not proven."""
    places = {(each.setting.where, each.setting.python) for each in among if each.rounds_ms}
    name = row.name if len(places) > 1 else row.candidate.label + (" again" if row.repeats else "")
    return f"{name} (unproven)" if row.status == "unproven" else name


def finding(panel: Panel) -> Finding:
    """What the rows of ``panel`` say."""
    best = panel.fastest
    if best is None:
        return Finding(sentence="No row ran and was proven. What went wrong stands below the table.")
    base = next((row for row in panel.rows if row.name == best.baseline), None)
    name = panel.called[best.name]
    if base is None or best.speedup is None:
        sentence = f"{name} is the fastest proven row"
    else:
        faster = "times the throughput of" if panel.circumstances.concurrency > 1 else "times as fast as"
        sentence = f"{name} is {panel.cell(best, 'speed-up').split('x')[0]} {faster} {panel.called[base.name]}"
    return Finding(
        sentence=f"{sentence}{_kept(best)}, at {panel.circumstances}.",
        figures=tuple(_figures(panel, best, base)),
    )


def _kept(row: Row) -> str:
    """What of the accuracy is left, as the end of a sentence."""
    if row.drop is None:
        return ""
    if not row.drop.excludes(0.0):
        return " and loses no accuracy that could be measured"
    points = abs(row.drop.estimate) * 100
    return f" and {'loses' if row.drop.estimate > 0 else 'gains'} {points:.2f} points of accuracy"


def _figures(panel: Panel, best: Row, base: Row | None) -> list[tuple[str, str, str]]:
    shown = []
    compared = base if base is not None and base is not best and base.rounds_ms else None

    def beside(heading: str, unit: str) -> str:
        return f"{panel.cell(compared, heading)} {unit} for {panel.called[compared.name]}" if compared else ""

    if best.speedup is not None:
        value, _, interval = panel.cell(best, "speed-up").partition(" ")
        shown.append(("Speed-up", value, f"95 % interval {interval.strip('()')}" if interval else "no interval"))
    shown.append(("Median latency", f"{panel.cell(best, 'p50 ms')} ms", beside("p50 ms", "ms")))
    if best.drop is not None:
        ends = f"95 % interval {_points(best.drop.low)} to {_points(best.drop.high)}"
        shown.append(("Accuracy lost", f"{_points(best.drop.estimate)} points", ends))
    elif best.accuracy is not None:
        value, _, half = panel.cell(best, "accuracy").partition(" ")
        shown.append(("Accuracy", value, f"{half} points"))
    shown.append(("Size", f"{panel.cell(best, 'size MB')} MB", beside("size MB", "MB")))
    return shown


def _points(share: float) -> str:
    """A share in points, with a true minus and no minus before zero."""
    text = f"{share * 100:.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")
