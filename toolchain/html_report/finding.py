"""What a benchmark found, in a sentence and a few figures: the page begins with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from toolchain.accuracy.status import Status
from toolchain.bench import figures as bench_figures
from toolchain.bench import report
from toolchain.bench.leader import called, fastest, level_with, titled
from toolchain.bench.record import Benchmark, Circumstances, Row
from toolchain.bench.scores import measure_of

_NAMED = 3
_LEAST_MEGABYTES = 10_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``sentence`` for the top of the page; ``figures`` are (name, value, what to compare it with)."""

    sentence: str
    figures: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The rows that were measured in the same circumstances, ``where`` in words; ``key`` is unique in the page.

    By their names: ``cells`` of the bench table under its headings, what the rows are ``called``, and which are
    ``efficient``. All of it is worked out once, for an interval of a percentile takes 15 ms.
    """

    key: str
    circumstances: Circumstances
    where: str
    rows: tuple[Row, ...]
    cells: Mapping[str, Mapping[str, str]]
    called: Mapping[str, str]
    efficient: frozenset[str]

    @property
    def title(self) -> str:
        text = self.where + (" (emulated)" if self.emulated else "")
        return text[:1].upper() + text[1:]

    @property
    def emulated(self) -> str:
        """What is emulated on what there, empty for a real machine."""
        return next((row.emulated for row in self.rows if row.emulated), "")

    @property
    def timed(self) -> list[Row]:
        """The rows that ran, proven or not."""
        return [row for row in self.rows if row.rounds_ms]

    @property
    def fastest(self) -> Row | None:
        return fastest(self.rows)

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
                where=titled(where, benchmark.rows),
                rows=rows,
                cells={row.name: _cells(row) for row in rows},
                called={row.name: _called(row, benchmark.rows) for row in rows},
                efficient=frozenset(rows[place].name for place in bench_figures.efficient(rows)),
            )
        )
    return found


def _cells(row: Row) -> dict[str, str]:
    """The row's cells by their headings; a file too small for MB has its size in kB."""
    found = dict(zip(report.HEADINGS, report.cells(row), strict=True))
    if row.rounds_ms and row.candidate.size_bytes < _LEAST_MEGABYTES:
        found["size MB"] = size(row)
    return found


def size(row: Row) -> str:
    """The file's, with its unit."""
    size_bytes = row.candidate.size_bytes
    return f"{size_bytes / 1e3:.3g} kB" if size_bytes < _LEAST_MEGABYTES else f"{report.megabytes(size_bytes)} MB"


def _called(row: Row, among: Sequence[Row]) -> str:
    """What the row is called, with a word where it is not proven."""
    name = called(row, among)
    return f"{name} (unproven)" if row.status is Status.UNPROVEN else name


def finding(panel: Panel) -> Finding:
    """What the rows of ``panel`` say."""
    best = panel.fastest
    if best is None and panel.emulated:
        return Finding(
            sentence=f"The rows ran emulated, {panel.emulated}: how fast they are says nothing about a device."
        )
    if best is None:
        return Finding(sentence="No row ran and was proven. What went wrong stands below the table.")
    base = next((row for row in panel.rows if row.name == best.baseline), None)
    return Finding(
        sentence=f"At {panel.where}, {_lead(panel, best, base)}.",
        figures=tuple(_figures(panel, best, base)),
    )


def _lead(panel: Panel, best: Row, base: Row | None) -> str:
    level = [panel.called[row.name] for row in level_with(best, panel.rows)]
    said, kept = _ahead(panel, best, base), _kept(best)
    if not level:
        return f"{said} and {kept}" if kept else said
    more = f" and {len(level) - _NAMED} more" if len(level) > _NAMED else ""
    said += f", not clearly ahead of {', '.join(level[:_NAMED])}{more}"
    return f"{said}, and {kept}" if kept else said


def _ahead(panel: Panel, best: Row, base: Row | None) -> str:
    """How much faster the best row is, as far as that is known."""
    name = panel.called[best.name]
    ratio, _, interval = panel.cell(best, "speed-up").partition(" ")
    if base is not None and best.speedup is not None and interval:
        faster = "times the throughput of" if panel.circumstances.concurrency > 1 else "times as fast as"
        return f"{name} is {ratio.removesuffix('x')} {faster} {panel.called[base.name]} {interval}"
    return f"{name} is the fastest proven row"


def _kept(row: Row) -> str:
    """What of the accuracy is left, as the end of a sentence; empty where that was not looked at."""
    if row.drop is None:
        return ""
    measure = measure_of([row])
    if not row.drop.excludes(0.0):
        if not measure.higher_is_better:
            return f"has no more {measure.title} that could be measured"
        return f"loses no {measure.title} that could be measured"
    if not measure.higher_is_better:
        more = "more" if row.drop.estimate > 0 else "less"
        return f"has {measure.difference(abs(row.drop.estimate))}{measure.unit} {more} {measure.title}"
    lost = f"{measure.difference(abs(row.drop.estimate))}{measure.unit}"
    return f"{'loses' if row.drop.estimate > 0 else 'gains'} {lost} of {measure.title}"


def _figures(panel: Panel, best: Row, base: Row | None) -> list[tuple[str, str, str]]:
    def latency(row: Row) -> str:
        return f"{panel.cell(row, 'p50 ms')} ms"

    def beside(figure: Callable[[Row], str]) -> str:
        """The baseline's, if it is another row that ran."""
        if base is None or base is best or not base.rounds_ms:
            return ""
        return f"{figure(base)} for {panel.called[base.name]}"

    shown = []
    if best.speedup is not None:
        value, _, interval = panel.cell(best, "speed-up").partition(" ")
        shown.append(("Speed-up", value, _interval(interval) or "no interval"))
    shown.append(("Median latency", latency(best), beside(latency)))
    if best.drop is not None:
        measure = measure_of([best])
        estimate, low, high = (
            _signed(measure.difference(end)) for end in (best.drop.estimate, best.drop.low, best.drop.high)
        )
        what = f"{measure.title[:1].upper()}{measure.title[1:]} {'lost' if measure.higher_is_better else 'more'}"
        shown.append((what, f"{estimate}{measure.unit}", f"95 % interval {low} to {high}"))
    elif best.accuracy is not None:
        value, _, interval = panel.cell(best, "accuracy").partition(" ")
        title = measure_of([best]).title
        shown.append((title[:1].upper() + title[1:], value, _interval(interval)))
    shown.append(("Size", size(best), beside(size)))
    return shown


def _interval(written: str) -> str:
    return f"95 % interval {written.strip('()')}" if written else ""


def _signed(number: str) -> str:
    """With a true minus, and none before zero."""
    return number.removeprefix("-") if float(number) == 0 else number.replace("-", "−")
