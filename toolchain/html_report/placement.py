"""Where the names of points go, so that they cover neither points nor each other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LINE = 16.0
_GAP = 5.0
_RINGS = 7


@dataclass(frozen=True)
class Box:
    """A rectangle in px, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, width: float, height: float) -> bool:
        return self.left >= 0 and self.top >= 0 and self.right <= width and self.bottom <= height


@dataclass(frozen=True)
class Point:
    """A mark at ``x``, ``y`` with its radius, and the width of its name, in px."""

    x: float
    y: float
    radius: float
    text_width: float

    @property
    def box(self) -> Box:
        return Box(self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)


@dataclass(frozen=True)
class Place:
    """Where a name stands, and the line from its mark, (x, y) to (x, y), where it stands far from it."""

    box: Box
    leader: tuple[tuple[float, float], tuple[float, float]] | None = None

    @property
    def middle(self) -> float:
        return (self.box.top + self.box.bottom) / 2


def place(points: Sequence[Point], *, width: float, height: float) -> list[Place | None]:
    """The place of each point's name; the first points choose first.

    Each name takes the nearest free place beside, above or below its point; None where there is none.
    """
    taken = [point.box for point in points]
    places: list[Place | None] = []
    for point in points:
        free = (
            box for box in _around(point) if box.within(width, height) and not any(box.meets(other) for other in taken)
        )
        chosen = next(free, None)
        if chosen is not None:
            taken.append(chosen)
        places.append(None if chosen is None else Place(chosen, _leader(point, chosen)))
    return places


def _leader(point: Point, box: Box) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """From the rim of the mark to the nearest point of the name, from the second ring on."""
    x, y = min(max(point.x, box.left), box.right), min(max(point.y, box.top), box.bottom)
    away = math.hypot(x - point.x, y - point.y)
    if away < point.radius + _GAP + _LINE / 2:
        return None
    rim = point.radius / away
    return (point.x + (x - point.x) * rim, point.y + (y - point.y) * rim), (x, y)


def _around(point: Point) -> Iterator[Box]:
    """Places for a name, the best first: right, left, then above and below, ever farther away."""
    beside = point.radius + _GAP
    for left in (point.x + beside, point.x - beside - point.text_width):
        yield Box(left, point.y - _LINE / 2, left + point.text_width, point.y + _LINE / 2)
    for ring in range(_RINGS):
        away = point.radius + _GAP + (ring + 0.5) * _LINE
        for middle in (point.y - away, point.y + away):
            for left in (point.x - point.text_width / 2, point.x - 8, point.x + 8 - point.text_width):
                yield Box(left, middle - _LINE / 2, left + point.text_width, middle + _LINE / 2)
