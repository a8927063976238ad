"""The parts of the page that are about the benchmark: its table, and what can be seen in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.metric import Measure
from toolchain.accuracy.status import Status
from toolchain.bench import report
from toolchain.bench.record import Benchmark, Row
from toolchain.bench.scores import measure_of
from toolchain.html_report import bench_charts, drawing, tables
from toolchain.html_report.bench_charts import ALONE, BEATEN, EFFICIENT, UNPROVEN, Bar, Bubble, Spread
from toolchain.html_report.finding import Panel, size
from toolchain.html_report.markup import NOTHING, joined, tag

_LEGEND = {
    EFFICIENT: "◆ no other row is surely better in one respect and surely worse in none",
    BEATEN: "● beaten by another",
    ALONE: "● without another proven row to compete with",
    UNPROVEN: "✚ unproven",
}
_IN_THE_GROUPS = ("host", "batch", "threads", "streams")
"""Headings that the table's groups make superfluous."""
_FEW = 8
_CROWD = " A row whose name found no room is named in the figures below."
MOST_DRAWN = 6
"""Panels drawn of a sweep: a chart takes 10 to 40 kB in both layouts, and the page should stay below 2 MB."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page. ``intro`` stands beside its heading; without a ``body`` it says how to get one."""

    key: str
    title: str
    intro: Markup
    body: Markup = NOTHING
    wide: bool = False


def results(benchmark: Benchmark, several: Sequence[Panel]) -> Section:
    """The bench table, grouped by circumstances, with its notes."""
    lines = [list(panel.cells[row.name].values()) for panel in several for row in panel.rows]
    found = report.without_empty(report.HEADINGS, lines, struck=frozenset(), droppable=())
    providers = list(dict.fromkeys(row.setting.where for row in benchmark.rows))
    left_out = (*_IN_THE_GROUPS, *(["provider"] if len(providers) == 1 else []))
    headings = [heading for heading in found.headings if heading not in left_out]
    figures = tables.numeric_columns(
        headings, [[panel.cell(row, heading) for heading in headings] for panel in several for row in panel.rows]
    )
    bodies = []
    for panel in several:
        head = tag("tr", tag("th", panel.title, scope="rowgroup", colspan=len(headings)), class_="group")
        shown = []
        for row in panel.rows:
            _, *others = (panel.cell(row, heading) for heading in headings)
            name = _named(row, efficient=row.name in panel.efficient)
            shown.append(tables.line([name, *others], figures, struck=row.status is Status.UNPROVEN))
        bodies.append(tag("tbody", head, *shown))
    where = f" on {providers[0]}" if len(providers) == 1 else ""
    title = measure_of(benchmark.rows).title
    called = [title if heading == "accuracy" else heading for heading in headings]
    table = tables.framed(f"All rows{where}, measured with {benchmark.data}", called, bodies, figures=figures)
    said = [note for note in report.notes(benchmark) if note not in benchmark.warnings]
    notes = tag("ul", *(tag("li", note) for note in said), class_="notes")
    return Section(
        key="results",
        title="Results",
        intro=tag("p", "Each row ran in a process of its own; rows took turns in random order."),
        body=joined(table, notes, _warnings(benchmark.warnings)),
        wide=True,
    )


def _named(row: Row, *, efficient: bool) -> Markup:
    """The row's label with what is to be known of it in a word."""
    words = []
    if efficient:
        words.append("◆ Pareto")
    if row.status is Status.UNPROVEN:
        words.append("unproven")
    if row.name == row.baseline and not row.repeats:
        words.append("baseline")
    name = row.candidate.label + (" again" if row.repeats else "")
    label = tag("s", name) if row.status is Status.UNPROVEN else Markup(joined(name))
    return joined(label, *(joined(" ", tag("span", word, class_="badge")) for word in words))


def _warnings(lines: Sequence[str]) -> Markup:
    if not lines:
        return NOTHING
    title = tag("h3", "Warnings", id="warnings")
    return tag("aside", title, tag("ul", *(tag("li", line) for line in lines)), aria_labelledby="warnings")


def trade_off(several: Sequence[Panel]) -> Section:
    """Accuracy, or size where nothing was judged, against latency."""
    several = [panel for panel in several if not panel.emulated]
    rows = [row for panel in several for row in panel.timed]
    measure = measure_of(rows) if any(row.accuracy for row in rows) else None
    what = measure.title if measure else "size"
    hint = "" if measure else " No row has an accuracy: bench on labelled data, with --samples or --data."
    scales = " The area of a mark is the size of the file; files too small to see share one smallest mark."
    scales += " Vertical lines are 95 % intervals." if measure else ""

    def figure(panel: Panel) -> Markup | None:
        bubbles = _bubbles(panel, scored=measure is not None)
        if not bubbles:
            return None
        best = [bubble.name for bubble in bubbles if bubble.kind == EFFICIENT]
        finding = f"{_capital(what)} against median latency, {panel.title.lower()}. " + (
            f"No row surely beats {_listed(best)}." if best else "No proven row stands out."
        )
        data = tables.table(
            f"{_capital(what)}, latency and size, {panel.title.lower()}",
            ["row", "p50 ms", measure.title if measure else "accuracy", "size MB", "mark"],
            [
                [
                    bubble.name,
                    panel.cell(row, "p50 ms"),
                    panel.cell(row, "accuracy"),
                    panel.cell(row, "size MB"),
                    bubble.kind,
                ]
                for bubble, row in zip(bubbles, _plotted(panel, scored=measure is not None), strict=True)
            ],
        )
        return drawing.figure(
            lambda layout: bench_charts.trade_off(bubbles, layout, measure=measure),
            name=f"trade-off-{panel.key}",
            title=f"{what} against latency, {panel.title.lower()}",
            finding=finding,
            caption=_legend(bubbles) + scales + (_CROWD if len(bubbles) > _FEW else ""),
            data=data,
        )

    intro = f"Rows further left are faster, {_upwards(measure)}."
    if not several:
        intro, hint = "All rows ran emulated: their latencies are no device's.", ""
    return Section(
        key="trade-off",
        title=f"{_capital(what)} against latency",
        intro=tag("p", intro + hint),
        body=_panelled(several, figure),
    )


def _legend(bubbles: Sequence[Bubble]) -> str:
    """What the marks that are there mean."""
    kinds = {bubble.kind for bubble in bubbles}
    return "; ".join(text for kind, text in _LEGEND.items() if kind in kinds) + "."


def _upwards(measure: Measure | None) -> str:
    if measure is None:
        return "rows lower down smaller"
    if measure.name == TOP1.name:
        return "rows higher up more accurate"
    return f"rows {'higher up' if measure.higher_is_better else 'lower down'} better in {measure.title}"


def _capital(text: str) -> str:
    """With a large first letter, the others as they are: F1, mAP."""
    return text[:1].upper() + text[1:]


def _plotted(panel: Panel, *, scored: bool) -> list[Row]:
    return [row for row in panel.timed if not row.repeats and (row.accuracy is not None or not scored)]


def _bubbles(panel: Panel, *, scored: bool) -> list[Bubble]:
    bubbles = []
    for row in _plotted(panel, scored=scored):
        accuracy, size = row.accuracy, row.candidate.size_bytes / 1e6
        value, low, high = (accuracy.estimate, accuracy.low, accuracy.high) if scored and accuracy else (size,) * 3
        bubbles.append(
            Bubble(
                name=panel.called[row.name], latency_ms=row.latency_ms(50) or 0.0, value=value, low=low, high=high,
                size_bytes=row.candidate.size_bytes,
                kind=_kind(row, panel),
            )
        )  # fmt: skip
    return bubbles


def _kind(row: Row, panel: Panel) -> str:
    if row.status is not Status.OK:
        return UNPROVEN
    if not panel.efficient:
        return ALONE
    return EFFICIENT if row.name in panel.efficient else BEATEN


def latency(several: Sequence[Panel]) -> Section:
    """How the latencies are spread."""

    def figure(panel: Panel) -> Markup | None:
        rows = panel.timed
        if not rows:
            return None
        best = panel.fastest
        spreads = [
            Spread(
                name=panel.called[row.name],
                latencies_ms=[sample for block in row.rounds_ms for sample in block],
                text=f"{panel.cell(row, 'p50 ms')} ms",
                strong=row is best,
            )
            for row in rows
        ]
        medians = _listed([f"{spread.name} {spread.text}" for spread in spreads])
        headings = ["row", "p50 ms", "p90 ms", "p99 ms", "runs", "rounds"]
        lines = [
            [
                spread.name,
                *(panel.cell(row, heading) for heading in headings[1:4]),
                f"{row.runs:,}",
                str(len(row.rounds_ms)),
            ]
            for spread, row in zip(spreads, rows, strict=True)
        ]
        return drawing.figure(
            lambda layout: bench_charts.distributions(spreads, layout),
            name=f"latency-{panel.key}",
            title=f"distribution of latencies, {panel.title.lower()}",
            finding=f"Median latencies: {medians}.",
            data=tables.table(f"Latencies, {panel.title.lower()}", headings, lines),
        )

    intro = "A hill is where a row's runs lie, its line their median: of each round up to 1,000 runs, evenly spaced; "
    intro += "cut at the slowest row's 99th percentile."
    return Section(key="latency", title="Latency", intro=tag("p", intro), body=_panelled(several, figure))


def weight(several: Sequence[Panel]) -> Section:
    """Sizes of the files, and memory of the processes."""
    files = {row.candidate.label: row for panel in several for row in panel.rows}
    bytes_of = {label: row.candidate.size_bytes for label, row in files.items()}
    smallest, largest = min(bytes_of.values()), max(bytes_of.values())
    sizes = [
        Bar(
            name=label, value=float(bytes_of[label]), text=size(row),
            strong=bytes_of[label] == smallest < largest,
        )
        for label, row in files.items()
    ]  # fmt: skip
    size_figure = _bar_figure(sizes, key="size", title="size of the files", unit="size", heading="size")

    def figure(panel: Panel) -> Markup | None:
        memory = [
            Bar(name=panel.called[row.name], value=float(used), text=f"{used / 1e6:,.0f} MB")
            for row in panel.rows
            if (used := row.peak_memory_bytes) and not row.repeats
        ]
        if not memory:
            return None
        title = f"peak memory of the process, {panel.title.lower()}"
        return _bar_figure(memory, key=f"memory-{panel.key}", title=title, unit="memory", heading="peak memory")

    intro = "The size is that of the model's file; the memory is the most that a row's whole process held."
    size_title = tag("h3", "Size")
    return Section(
        key="size",
        title="Size and memory",
        intro=tag("p", intro),
        body=joined(size_title, size_figure, _panelled(several, figure, prefix="Memory, ")),
    )


def _bar_figure(bars: Sequence[Bar], *, key: str, title: str, unit: str, heading: str) -> Markup:
    least, most = min(bars, key=lambda bar: bar.value), max(bars, key=lambda bar: bar.value)
    finding = f"The least {unit} has {least.name} with {least.text}, the most {most.name} with {most.text}."
    if least.text == most.text:
        finding = f"All have {least.text}."
    return drawing.figure(
        lambda layout: bench_charts.bars(bars, layout),
        name=key,
        title=title,
        finding=finding,
        data=tables.table(title.capitalize(), ["row", heading], [[bar.name, bar.text] for bar in bars]),
    )


def _panelled(several: Sequence[Panel], figure: Callable[[Panel], Markup | None], *, prefix: str = "") -> Markup:
    """A figure for each circumstances, under its heading."""
    drawn = []
    for panel in several[:MOST_DRAWN]:
        made = figure(panel)
        title = f"{prefix}{panel.title.lower()}" if prefix else panel.title
        drawn.append(joined(tag("h3", title), made or tag("p", "No row ran here.", class_="missing")))
    if len(several) > MOST_DRAWN:
        left = len(several) - MOST_DRAWN
        drawn.append(tag("p", f"{left} more circumstances are in the table of results.", class_="missing"))
    return joined(*drawn)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
