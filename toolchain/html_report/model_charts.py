"""Drawings of a model and its training: heat-maps, curves, gains."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from toolchain.html_report import drawing
from toolchain.html_report.drawing import (
    ACCENT,
    AXIS_HEIGHT,
    HEAT,
    INK,
    MUTED,
    ON_HEAT,
    PAPER,
    PLAIN,
    TITLE_HEIGHT,
    Chart,
    Layout,
)

_CELL = 26
_NAME_LIMIT = {"wide": 230, "narrow": 122}
_STEPS_OF_GAIN = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A square of a heat-map: what is written in it, and how hot it is, 0 to 4."""

    row: str
    column: str
    text: str
    level: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Values by epoch, from 1 on, None where there is none; ``dashed`` tells it from another without colour."""

    name: str
    values: Sequence[float | None]
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How many times faster a loop is, with its interval, in a named measure."""

    loop: str
    measure: str
    estimate: float
    low: float
    high: float


def heat_map(cells: Sequence[Cell], layout: Layout) -> Chart:
    """Shaded cells, each with its figure, so that the shade only repeats what is written; without where none fits."""
    rows, columns = (list(dict.fromkeys(getattr(cell, axis) for cell in cells)) for axis in ("row", "column"))
    records = [
        {
            "row": rows.index(cell.row), "column": columns.index(cell.column), "text": cell.text,
            "heat": HEAT[cell.level], "ink": ON_HEAT[cell.level],
        }
        for cell in cells
    ]  # fmt: skip
    limit = _NAME_LIMIT[layout.name]
    names_width = drawing.names_width(rows, limit=limit)
    cell_width = (layout.width - names_width - 8) / len(columns)
    slanted = max(drawing.text_width(name) for name in columns) > cell_width
    head_limit = 126.0 if slanted else layout.width
    head = alt.Axis(
        orient="top", title=None, labelColor=INK, labelLimit=150, labelAngle=38 if slanted else 0,
        labelAlign="right" if slanted else "center", grid=False, labelPadding=6, labelOverlap=False,
        labelExpr=drawing.labels(columns, head_limit),
    )  # fmt: skip
    side = alt.Axis(
        title=None, labelColor=INK, labelLimit=limit + 20, grid=False, labelPadding=8, labelOverlap=False,
        minExtent=names_width + 8, labelExpr=drawing.labels(rows, limit),
    )  # fmt: skip
    base = alt.Chart(alt.InlineData(values=records)).encode(
        x=alt.X("column:O").axis(head).scale(paddingInner=0.03),
        y=alt.Y("row:O").axis(side).scale(paddingInner=0.08),
    )
    squares = base.mark_rect(cornerRadius=2).encode(fill=alt.Fill("heat:N").scale(None))
    figures = base.mark_text().encode(text="text:N", fill=alt.Fill("ink:N").scale(None))
    fits = max(drawing.text_width(cell.text) for cell in cells) + 6 <= cell_width
    # under "fit" the head counts as height
    head_height = drawing.names_width(columns, limit=head_limit) * 0.65 + 24 if slanted else 24
    return alt.layer(squares, *([figures] if fits else [])).properties(height=_CELL * len(rows) + head_height)


def curves(given: Sequence[Curve], layout: Layout, *, shares: bool) -> Chart:
    """Lines over the epochs; the title tells which is which."""
    last = max(len(curve.values) for curve in given)
    values = [value for curve in given for value in curve.values if value is not None]
    x = alt.X("epoch:Q").scale(domain=[1, max(last, 2)], nice=False)
    x = x.axis(title="epoch", format="d", values=_whole_steps(last), grid=False)
    y = alt.Y("value:Q").scale(
        domain=[min(values) if shares else min(0.0, *values), max(values)], nice=True, zero=False
    )
    y = y.axis(title=None, tickCount=4, format=".0%" if shares else "~g")
    size = 26 if last <= 20 else 0
    layers: list[alt.Chart] = []
    for curve in given:
        tone, dash, shape = (PLAIN, [5, 4], "square") if curve.dashed else (ACCENT, [1, 0], "circle")
        points = [{"epoch": epoch, "value": value} for epoch, value in enumerate(curve.values, 1) if value is not None]
        base = alt.Chart(alt.InlineData(values=points)).encode(x=x, y=y)
        layers.append(base.mark_line(stroke=tone, strokeWidth=2, strokeDash=dash))
        layers.append(base.mark_point(size=size, stroke=tone, fill=tone, shape=shape, fillOpacity=1))
    named = [f"{'■ dashed' if curve.dashed else '●'} {curve.name}" for curve in given]
    title = "   ".join(named) if len(given) > 1 else given[0].name
    return alt.layer(*layers).properties(height=160 + AXIS_HEIGHT + TITLE_HEIGHT, title=title)


def _whole_steps(last: int) -> list[int]:
    """At most about eight epochs to label, from the first on."""
    return list(range(1, last + 1, max(1, round(last / 7))))


def gains(given: Sequence[Gain], layout: Layout) -> Chart:
    """Points with their intervals against a line at 1; each measure has a shape of its own."""
    loops, measures = (list(dict.fromkeys(getattr(gain, axis) for gain in given)) for axis in ("loop", "measure"))
    loops.reverse()
    lower = 0.2 if layout.narrow else 0.0
    looks = dict(zip(measures, (("circle", ACCENT, 0.13), ("diamond", PLAIN, -0.13)), strict=False))
    records = [
        {
            "level": loops.index(gain.loop) + offset - lower, "estimate": gain.estimate, "low": gain.low,
            "high": gain.high, "shape": shape, "tone": tone,
        }
        for gain in given
        for shape, tone, offset in [looks[gain.measure]]
    ]  # fmt: skip
    low, high = min(1.0, *(gain.low for gain in given)) / 1.06, max(1.0, *(gain.high for gain in given)) * 1.06
    x = alt.X("estimate:Q").scale(type="log", domain=[low, high], nice=False)
    steps = [step for step in _STEPS_OF_GAIN if low <= step <= high]
    x = x.axis(values=steps, format="~g", labelExpr="datum.label + 'x'", title="times the plain loop")
    y = alt.Y("level:Q").scale(domain=[-0.5, len(loops) - 0.5], nice=False, zero=False)
    y = y.axis(None) if layout.narrow else y.axis(drawing.named_axis(loops, limit=200))
    tones = {"stroke": alt.Stroke("tone:N").scale(None), "fill": alt.Fill("tone:N").scale(None)}
    base = alt.Chart(alt.InlineData(values=records))
    one = alt.Chart(alt.InlineData(values=[{"estimate": 1.0}])).mark_rule(stroke=MUTED, strokeDash=[3, 3]).encode(x=x)
    whiskers = [
        base.mark_rule(strokeWidth=1.5).encode(x=x, y=y, x2=alt.X2(end), stroke=tones["stroke"])
        for end in ("low:Q", "high:Q")
    ]
    points = base.mark_point(size=64, fillOpacity=1).encode(x=x, y=y, shape=alt.Shape("shape:N").scale(None), **tones)
    layers = [one, *whiskers, points]
    if layout.narrow:
        labels = [drawing.shortened(loop, layout.width - 4) for loop in loops]
        names = alt.InlineData(values=[{"name": label, "level": level + 0.26} for level, label in enumerate(labels)])
        above = alt.Chart(names).mark_text(align="left", stroke=PAPER, strokeWidth=4)
        layers.append(above.encode(x=alt.value(0), y=y, text="name:N"))
    title = "   ".join(f"{'●' if looks[measure][0] == 'circle' else '◆'} {measure}" for measure in measures)
    height = (56 if layout.narrow else 40) * len(loops) + AXIS_HEIGHT + TITLE_HEIGHT
    return alt.layer(*layers).properties(height=height, title=title)
