"""Drawings of a benchmark: trade-offs, distributions, bars."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import altair as alt
import numpy as np

from toolchain.accuracy.metrics.metric import Measure
from toolchain.html_report import drawing
from toolchain.html_report.drawing import (
    ACCENT,
    AXIS_HEIGHT,
    INK,
    MUTED,
    PAPER,
    PLAIN,
    RULE,
    TITLE_HEIGHT,
    Chart,
    Layout,
)
from toolchain.html_report.placement import Point, place

_LARGEST_MARK, _SMALLEST_MARK = 860.0, 30.0
"""Areas in square px."""
_BINS = 140
_SMOOTHING = 1.5
_VISIBLE = 0.004
_NAME_LIMIT = 260.0


@dataclass(frozen=True, kw_only=True)
class Bubble:
    """A row in the trade-off: ``value`` is its score with its interval or, where there is none, its size in MB."""

    name: str
    latency_ms: float
    value: float
    low: float
    high: float
    size_bytes: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A named length, and how it is written."""

    name: str
    value: float
    text: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A row's latencies in ms, and how its median is written."""

    name: str
    latencies_ms: Sequence[float]
    text: str
    strong: bool = False


EFFICIENT, BEATEN, ALONE, UNPROVEN = "efficient", "beaten", "alone", "unproven"
_SHAPES = {EFFICIENT: "diamond", BEATEN: "circle", ALONE: "circle", UNPROVEN: "cross"}
_TONES = {EFFICIENT: ACCENT, BEATEN: PLAIN, ALONE: ACCENT, UNPROVEN: MUTED}
_FILLED = {"diamond": 0.5, "circle": math.pi / 4, "cross": 0.64}
"""What of the square around it a shape of Vega covers; its ``size`` is that square's area."""


def trade_off(bubbles: Sequence[Bubble], layout: Layout, *, measure: Measure | None) -> Chart:
    """Latency to the right on a logarithmic scale, upwards the score by ``measure`` or else size, bubbles by size."""
    height = 320 if layout.narrow else 400
    width = layout.width - 46.0  # the axis' labels
    x_low, x_high = _spaced_log([bubble.latency_ms for bubble in bubbles])
    proven = [bubble for bubble in bubbles if bubble.kind != UNPROVEN] or bubbles
    y_low, y_high = _spaced([end for bubble in proven for end in (bubble.low, bubble.high)], measure)
    bubbles = [_held(bubble, y_low, y_high, measure) for bubble in bubbles]

    def right(latency: float) -> float:
        return width * math.log(latency / x_low) / math.log(x_high / x_low)

    def down(value: float) -> float:
        return height * (y_high - value) / (y_high - y_low)

    squares = _squares(bubbles)
    names = [drawing.shortened(bubble.name, width * 0.6) for bubble in bubbles]
    points = [
        Point(right(bubble.latency_ms), down(bubble.value), math.sqrt(square) / 2, drawing.text_width(name))
        for bubble, square, name in zip(bubbles, squares, names, strict=True)
    ]
    # the best rows choose first where their names go
    order = sorted(range(len(points)), key=lambda index: bubbles[index].kind != EFFICIENT)
    places = place([points[index] for index in order], width=width, height=height)

    def at(x: float, y: float, ending: str = "") -> dict[str, float]:
        latency, value = x_low * (x_high / x_low) ** (x / width), y_high - (y_high - y_low) * y / height
        return {f"latency{ending}": latency, f"value{ending}": value}

    named, leaders = [], []
    for index, where in zip(order, places, strict=True):
        if where is not None:
            named.append({"name": names[index], **at(where.box.left, where.middle)})
        if where is not None and where.leader:
            leaders.append({**at(*where.leader[0]), **at(*where.leader[1], ending="2")})
    records = [
        {
            "latency": bubble.latency_ms, "value": bubble.value, "low": bubble.low, "high": bubble.high,
            "square": square, "shape": _SHAPES[bubble.kind], "tone": _TONES[bubble.kind],
        }
        for bubble, square in zip(bubbles, squares, strict=True)
    ]  # fmt: skip
    x = alt.X("latency:Q").scale(type="log", domain=[x_low, x_high], nice=False)
    x = x.axis(values=drawing.ticks(x_low, x_high), format="~g", title="median latency, ms (less is better)")
    y = alt.Y("value:Q").scale(domain=[y_low, y_high], nice=False, zero=False)
    y = y.axis(title=None, tickCount=5, format=_share_format(y_high - y_low) if measure and measure.share else "~g")
    tone = alt.Stroke("tone:N").scale(None)
    base = alt.Chart(alt.InlineData(values=records))
    whiskers = [
        base.mark_rule(strokeWidth=1, opacity=0.55).encode(x=x, y=y, y2=alt.Y2(end), stroke=tone)
        for end in ("low:Q", "high:Q")
    ]
    marks = base.mark_point(strokeWidth=1.75, fillOpacity=0.22).encode(
        x=x, y=y, size=alt.Size("square:Q").scale(None), shape=alt.Shape("shape:N").scale(None), stroke=tone,
        fill=alt.Fill("tone:N").scale(None),
    )  # fmt: skip
    written = alt.Chart(alt.InlineData(values=named)).mark_text(
        align="left", baseline="middle", stroke=PAPER, strokeWidth=3
    )
    led = alt.Chart(alt.InlineData(values=leaders)).mark_rule(strokeWidth=0.75, stroke=INK)
    led = led.encode(x=x, y=y, x2="latency2:Q", y2="value2:Q")
    layers = [
        *(whiskers if measure else ()),
        *([led] if leaders else ()),
        marks,
        written.encode(x=x, y=y, text="name:N"),
    ]
    way = "more" if measure and measure.higher_is_better else "less"
    title = f"{measure.title if measure else 'size, MB'} ({way} is better)"
    return alt.layer(*layers).properties(height=height + AXIS_HEIGHT + TITLE_HEIGHT, title=title)


def _squares(bubbles: Sequence[Bubble]) -> list[float]:
    """Vega's sizes of the marks, so that a mark's area goes with the file's size whatever its shape."""
    largest = max(bubble.size_bytes for bubble in bubbles) or 1
    areas = (max(_SMALLEST_MARK, _LARGEST_MARK * bubble.size_bytes / largest) for bubble in bubbles)
    return [area / _FILLED[_SHAPES[bubble.kind]] for area, bubble in zip(areas, bubbles, strict=True)]


def _held(bubble: Bubble, low: float, high: float, measure: Measure | None) -> Bubble:
    """A mark that would lie outside stands at the edge with its value: a broken row must not squeeze the others."""
    if low <= bubble.value <= high:
        return replace(bubble, low=max(bubble.low, low), high=min(bubble.high, high))
    value = min(max(bubble.value, low + (high - low) * 0.05), high)
    number = f"{bubble.value:.1%}" if measure and measure.share else f"{bubble.value:.3g}"
    written = number if measure else f"{number} MB"
    return replace(bubble, value=value, low=value, high=value, name=f"{bubble.name}: {written}")


def distributions(spreads: Sequence[Spread], layout: Layout) -> Chart:
    """Each row's latencies as a hill over one logarithmic axis, its median a line.

    Names and medians stand beside the hills, in a narrow layout above them.
    """
    names = [spread.name for spread in reversed(spreads)]
    step, tall, end = (66, 0.62, 1.0) if layout.narrow else (54, 0.8, 84 / (layout.width - _beside(names)))
    low, high = _reach(spreads)
    high_end = high if layout.narrow else low * (high / low) ** (1 / (1 - end))
    hills, lines, labels = [], [], []
    for level, spread in enumerate(reversed(spreads)):
        tone = ACCENT if spread.strong else PLAIN
        grid, heights = density(spread.latencies_ms, low, high)
        hills += [
            {"row": level, "latency": x, "base": level, "top": round(level + tall * y, 3), "tone": tone}
            for x, y in zip(grid, heights, strict=True)
        ]
        lines.append(
            {"latency": float(np.median(spread.latencies_ms)), "base": level, "top": level + tall, "tone": tone}
        )
        name = drawing.shortened(spread.name, layout.width - drawing.text_width(spread.text) - 12)
        labels.append({"name": name, "base": level, "above": level + 0.8, "beside": level + 0.17, "text": spread.text})
    x = alt.X("latency:Q").scale(type="log", domain=[low, high_end], nice=False)
    x = x.axis(values=drawing.ticks(low, high), format="~g", title="latency, ms")
    y = alt.Y("base:Q").scale(domain=[0, len(spreads)], nice=False, zero=False)
    y = y.axis(None) if layout.narrow else y.axis(drawing.named_axis(names, limit=_NAME_LIMIT, above=0.17))
    tones = {"fill": alt.Fill("tone:N").scale(None), "stroke": alt.Stroke("tone:N").scale(None)}
    hill = alt.Chart(alt.InlineData(values=hills)).mark_area(fillOpacity=0.28, strokeWidth=1.25)
    median = alt.Chart(alt.InlineData(values=lines)).mark_rule(strokeWidth=2)
    written = alt.Chart(alt.InlineData(values=labels))
    height = "above:Q" if layout.narrow else "beside:Q"
    layers = [
        written.mark_rule(stroke=RULE).encode(y=y),
        hill.encode(x=x, y=y, y2=alt.Y2("top:Q"), detail="row:N", **tones),
        median.encode(x=x, y=y, y2=alt.Y2("top:Q"), stroke=tones["stroke"]),
        written.mark_text(align="right").encode(x=alt.value("width"), y=alt.Y(height), text="text:N"),
    ]
    if layout.narrow:
        layers.append(written.mark_text(align="left").encode(x=alt.value(0), y=alt.Y(height), text="name:N"))
    return alt.layer(*layers).properties(height=step * len(spreads) + AXIS_HEIGHT)


def _reach(spreads: Sequence[Spread]) -> tuple[float, float]:
    """From the fastest run to the slowest row's 99th percentile, with a little room."""
    low = min(min(spread.latencies_ms) for spread in spreads)
    high = max(float(np.percentile(spread.latencies_ms, 99)) for spread in spreads)
    room = max(high / low, 1.1) ** 0.02
    return low / room, max(high, low * 1.05) * room


def density(latencies_ms: Sequence[float], low: float, high: float) -> tuple[list[float], list[float]]:
    """Where the latencies lie between ``low`` and ``high``: positions, evenly spaced in the logarithm, and heights
    with a largest of 1, smoothed by a Gaussian of 1.5 bins; only the stretch that can be seen."""
    edges = np.geomspace(low, high, _BINS + 1)
    counts, _ = np.histogram(np.asarray(latencies_ms, dtype=float), bins=edges)
    reach = np.arange(-5, 6)
    kernel = np.exp(-0.5 * (reach / _SMOOTHING) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    heights = smooth / (smooth.max() or 1.0)
    seen = np.flatnonzero(heights > _VISIBLE)
    if not len(seen):
        return [low, high], [0.0, 0.0]
    part = slice(max(0, seen[0] - 1), seen[-1] + 2)
    middles = np.sqrt(edges[:-1] * edges[1:])
    return [round(float(x), 6) for x in middles[part]], [round(float(y), 3) for y in heights[part]]


def bars(given: Sequence[Bar], layout: Layout) -> Chart:
    """Lengths from zero, each with its figure at its end; in a narrow layout its name stands above."""
    names = [bar.name for bar in reversed(given)]
    plot = layout.width - (0.0 if layout.narrow else _beside(names))
    room = max(drawing.text_width(bar.text) for bar in given) + 12
    highest = max(bar.value for bar in given) or 1.0
    records = [
        {
            "level": level,
            "name": drawing.shortened(bar.name, layout.width - 4),
            "value": bar.value,
            "text": bar.text,
            "tone": ACCENT if bar.strong else PLAIN,
        }
        for level, bar in enumerate(reversed(given))
    ]
    base = alt.Chart(alt.InlineData(values=records))
    x = alt.X("value:Q").scale(domain=[0, highest / (1 - room / plot)], nice=False).axis(None)
    y = alt.Y("level:Q").scale(domain=[-0.5, len(given) - 0.5], nice=False, zero=False)
    y = y.axis(None) if layout.narrow else y.axis(drawing.named_axis(names, limit=_NAME_LIMIT))
    lower = 9 if layout.narrow else 0
    lengths = base.mark_bar(orient="horizontal", size=14, yOffset=lower, y2Offset=lower, cornerRadiusEnd=2)
    layers: list[alt.Chart] = [
        lengths.encode(x=x, y=y, fill=alt.Fill("tone:N").scale(None)),
        base.mark_text(align="left", dx=6, dy=lower).encode(x=x, y=y, text="text:N"),
    ]
    if layout.narrow:
        layers.append(base.mark_text(align="left", dy=-10).encode(x=alt.value(0), y=y, text="name:N"))
    return alt.layer(*layers).properties(height=(50 if layout.narrow else 32) * len(given))


def _beside(names: Sequence[str]) -> float:
    """What an axis of names takes of the width, in px."""
    return drawing.names_width(names, limit=_NAME_LIMIT) + 10


def _spaced_log(values: Sequence[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis a little beyond the values."""
    factor = max((max(values) / min(values)) ** 0.09, 1.12)
    return min(values) / factor, max(values) * factor


def _spaced(values: Sequence[float], measure: Measure | None) -> tuple[float, float]:
    """Ends of an axis a little beyond the values; shares stay within 0 and 1, sizes begin at 0."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    if measure is None:
        return 0.0, high * 1.18 or 1.0
    if not measure.share:
        room = max((high - low) * 0.12, abs(high) * 0.02) or 1.0
        return low - room, high + room
    room = max((high - low) * 0.12, abs(high) * 0.002, 0.0005)
    return max(0.0, low - room), min(1.0, high + room) if high < 1 else 1.0


def _share_format(width: float) -> str:
    return ".0%" if width >= 0.05 else ".1%" if width >= 0.005 else ".2%"
