"""From an Altair chart to the SVG of a page: two layouts, colours by CSS, a name for those who cannot see it."""

import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import altair as alt
from markupsafe import Markup

from toolchain.html_report.markup import legible, tag

INK, MUTED, RULE = "var(--ink)", "var(--muted)", "var(--rule)"
ACCENT, PLAIN, PAPER = "var(--accent)", "var(--plain)", "var(--paper)"
HEAT = tuple(f"var(--heat-{level})" for level in range(5))
ON_HEAT = tuple(f"var(--on-heat-{level})" for level in range(5))
FONT_SIZE = 12
CHARACTER = 7.0
"""Mean width in px of a character at FONT_SIZE, generous: the reader's font is not known."""
AXIS_HEIGHT, TITLE_HEIGHT = 44, 26
"""What a horizontal axis with its title, and a chart's title, take of the height, in px."""
_SVG = "{http://www.w3.org/2000/svg}"
_KEPT = frozenset(
    {
        "transform", "d", "x", "y", "x2", "y2", "width", "height", "fill", "fill-opacity", "stroke", "stroke-width",
        "stroke-dasharray", "stroke-opacity", "opacity", "text-anchor", "font-weight", "clip-path", "id",
        "stroke-linecap", "stroke-miterlimit",
    }
)  # fmt: skip
_PLACES = frozenset({"transform", "d", "x", "y", "x2", "y2", "width", "height"})
_LONG = re.compile(r"-?\d+\.\d{2,}")
_IDS = re.compile(r"url\(#(\w+)\)")


@dataclass(frozen=True)
class Layout:
    """How wide a chart is drawn, in px. In a narrow one, names stand above what they name instead of beside it."""

    name: str
    width: int

    @property
    def narrow(self) -> bool:
        return self.width < 500


WIDE, NARROW = Layout("wide", 720), Layout("narrow", 320)
Chart = alt.LayerChart | alt.FacetChart
"""What :func:`altair.layer` returns."""
Draw = Callable[[Layout], Chart]


def figure(draw: Draw, *, name: str, title: str, finding: str, caption: str = "", data: Markup) -> Markup:
    """A chart in both layouts, of which CSS shows the one that fits, its caption, and its data as a table.

    ``name`` is unique in the page; ``title`` and ``finding`` are what a screen reader says in place of the drawing.
    """
    drawings = (
        tag("div", svg(draw(layout), layout, name=f"{name}-{layout.name}", title=title, finding=finding),
            class_=layout.name)
        for layout in (WIDE, NARROW)
    )  # fmt: skip
    shown = [tag("figcaption", caption)] if caption else []
    details = tag("details", tag("summary", "The figures", tag("span", f" of {title}", class_="unseen")), data)
    return tag("figure", *drawings, *shown, details)


def svg(chart: Chart, layout: Layout, *, name: str, title: str, finding: str) -> Markup:
    """The drawing with its accessible name and description, without what only scripts would use."""
    file = io.StringIO()
    _themed(chart, layout).save(file, format="svg")
    root = ElementTree.fromstring(file.getvalue())
    _tidy(root, prefix=name)
    drawn = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    # as HTML the elements belong to the namespace of the <svg> around them
    drawn = drawn.replace(' xmlns:ns0="http://www.w3.org/2000/svg"', "").replace("<ns0:", "<").replace("</ns0:", "</")
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", finding, id=f"{name}-finding"),
        Markup(drawn),
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-finding",
        viewBox=root.get("viewBox"),
        width=root.get("width"),
        height=root.get("height"),
    )


def _themed(chart: Chart, layout: Layout) -> Chart:
    """Text in one size, hair lines, nothing boxed."""
    sized: Chart = chart.properties(
        width=layout.width,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        padding=1,
        background="transparent",
    )
    themed: Chart = sized.configure(
        aria=False,
        font="sans-serif",
        view=alt.ViewConfig(stroke=None),
        title=alt.TitleConfig(
            anchor="start", frame="group", fontSize=FONT_SIZE, fontWeight="normal", color=MUTED, offset=12
        ),
        axis=alt.AxisConfig(
            labelColor=MUTED, labelFontSize=FONT_SIZE, titleColor=MUTED, titleFontSize=FONT_SIZE,
            titleFontWeight="normal", gridColor=RULE, domain=False, ticks=False, labelPadding=8, titlePadding=10,
        ),
        axisX=alt.AxisConfig(titleAnchor="end"),
        text=alt.MarkConfig(fontSize=FONT_SIZE, color=INK),
    )  # fmt: skip
    return themed


def _tidy(root: ElementTree.Element, *, prefix: str) -> None:
    """Keep what is drawn; round it; make ids unique in the page."""
    for parent in list(root.iter()):
        for child in list(parent):
            invisible = child.get("display") == "none" or child.get("class") in ("background", "foreground")
            if invisible and child.tag == f"{_SVG}path":
                parent.remove(child)
        for key, value in list(parent.attrib.items()):
            if parent is root:
                continue
            if key not in _KEPT or (key == "opacity" and value == "1"):
                del parent.attrib[key]
            elif key == "id":
                parent.set(key, f"{prefix}-{value}")
            else:
                shorter = _LONG.sub(lambda number: f"{float(number[0]):.1f}", value) if key in _PLACES else value
                parent.set(key, _IDS.sub(lambda match: f"url(#{prefix}-{match[1]})", shorter))


def text_width(text: str) -> float:
    """About how many px ``text`` takes."""
    return len(text) * CHARACTER


def named_axis(names: Sequence[str], *, limit: float, above: float = 0.0) -> alt.Axis:
    """A vertical axis that has the names at the levels 0, 1, ..., each ``above`` its level."""
    return alt.Axis(
        values=[level + above for level in range(len(names))], labelExpr=labels(names, limit, offset=above),
        title=None, grid=False, labelColor=INK, labelLimit=limit + 20, minExtent=names_width(names, limit=limit) + 8,
    )  # fmt: skip


def labels(names: Sequence[str], limit: float, *, offset: float = 0.0) -> str:
    """An axis' expression for the names, shortened, at 0, 1, ..., each plus ``offset``."""
    return f"{json.dumps(told_apart(names, limit))}[round(datum.value - {offset})]"


def told_apart(names: Sequence[str], width: float) -> list[str]:
    """The names shortened, without the beginning that all share where they would look the same."""
    short = [shortened(name, width) for name in names]
    if len(set(short)) == len(set(names)):
        return short
    letters = enumerate(zip(*names, strict=False))
    common = next((place for place, each in letters if len(set(each)) > 1), 0)
    return [shortened(f"…{name[common:]}", width) for name in names]


def names_width(names: Sequence[str], *, limit: float) -> float:
    """What the longest of the names takes, at most ``limit``, in px."""
    return min(limit, max(text_width(name) for name in names))


def shortened(text: str, width: float) -> str:
    """``text``, or its beginning and its end where it would take more than ``width`` px: names often differ at both.

    Every name in a drawing goes through here, so this is where it becomes legible.
    """
    text = legible(text)
    most = max(4, int(width / CHARACTER))
    if len(text) <= most:
        return text
    ending = (most - 1) // 2
    return f"{text[: most - 1 - ending]}…{text[-ending:]}"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) for a logarithmic axis, thinned where there would be many."""
    numbers = [step * 10.0**power for power in range(-9, 10) for step in (1, 2, 5)]
    inside = [float(f"{number:.1g}") for number in numbers if low <= number <= high]
    if len(inside) > 7:
        return [number for number in inside if f"{number:e}".startswith("1")]
    if len(inside) >= 2:
        return inside
    step = min((number for number in numbers if number >= (high - low) / 4), default=high - low)
    multiples = (step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1))
    return [float(f"{multiple:.6g}") for multiple in multiples]
