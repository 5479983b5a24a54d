"""Where names go beside their points, so that they run into nothing.

Greedy: crowded points choose first, each takes the cheapest of thirty-two places around it; a place further off gets a
leader line. Works on pixels of the smallest size that the chart is meant for; on a larger one everything is further apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import hypot

Box = tuple[float, float, float, float]  # left, top, right, bottom

_DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))
_ALIGN = {1: "left", -1: "right", 0: "center"}
_BASELINE = {1: "top", -1: "bottom", 0: "middle"}


@dataclass(frozen=True)
class Place:
    """Offset of a text from its point, as Vega takes it, and whether a leader line is needed."""

    dx: float
    dy: float
    align: str
    baseline: str
    leader: bool


def place(points: Sequence[tuple[float, float]], texts: Sequence[str], *, width: float, height: float, font: float, radius: float,
          lines: Sequence[Box] = ()) -> list[Place]:
    """One place per point. points: pixels, y downwards. lines: whiskers and reference lines as thin boxes, avoided if possible."""
    return list(_placed(tuple(points), tuple(texts), width, height, font, radius, tuple(lines)))


@lru_cache(maxsize=512)  # the same figure is drawn at every click elsewhere on its page
def _placed(points: tuple[tuple[float, float], ...], texts: tuple[str, ...], width: float, height: float, font: float, radius: float,
            lines: tuple[Box, ...]) -> tuple[Place, ...]:
    dots: list[Box] = [(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    order = sorted(range(len(points)), key=lambda i: -_crowding(points, i))
    taken: list[Box] = []
    chosen: dict[int, Place] = {}
    for i in order:
        best: tuple[float, Place, Box] | None = None
        for rank, (spot, box) in enumerate(_places(points[i], texts[i], font, radius)):
            left, top, right, bottom = box
            outside = max(0.0, -left) + max(0.0, right - width) + max(0.0, -top) + max(0.0, bottom - height)
            cost = (rank + 60 * _misleads(points, i, box, radius) + 40 * outside + 30 * sum(_overlap(box, other) > 0 for other in (*dots[:i], *dots[i + 1:]))
                    + 100 * sum(_overlap(box, other) > 0 for other in taken) + 11 * sum(_overlap(box, other) > 0 for other in lines))
            if best is None or cost < best[0]:
                best = (cost, spot, box)
        assert best is not None
        chosen[i] = best[1]
        taken.append(best[2])
    return tuple(chosen[i] for i in range(len(points)))


def clearest(boxes: Sequence[Box], obstacles: Sequence[Box]) -> int:
    """Which of the boxes runs into the fewest obstacles; the first of equals."""
    return min(range(len(boxes)), key=lambda i: sum(_overlap(boxes[i], other) > 0 for other in obstacles))


def text_width(text: str, font: float) -> float:
    """Roughly: a proportional sans-serif averages 0.58 em a character."""
    return 0.58 * font * len(text)


def _places(point: tuple[float, float], text: str, font: float, radius: float) -> list[tuple[Place, Box]]:
    wide, high = text_width(text, font), 1.15 * font
    found = []
    for reach, leader in ((radius + 3, False), (radius + 1.3 * font, True), (radius + 2.6 * font, True), (radius + 4.2 * font, True)):
        for across, down in _DIRECTIONS:
            shrink = 0.75 if across and down else 1.0
            dx, dy = across * reach * shrink, down * reach * shrink
            left = point[0] + dx - {1: 0.0, -1: wide, 0: wide / 2}[across]
            top = point[1] + dy - {1: 0.0, -1: high, 0: high / 2}[down]
            found.append((Place(round(dx, 1), round(dy, 1), _ALIGN[across], _BASELINE[down], leader), (left, top, left + wide, top + high)))
    return found


def _misleads(points: Sequence[tuple[float, float]], i: int, box: Box, radius: float) -> bool:
    """Whether a name there would be nearer to another point than to its own; of points that cover each other, not clearly nearer."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    own = hypot(points[i][0] - x, points[i][1] - y)
    for j, (a, b) in enumerate(points):
        apart = hypot(a - points[i][0], b - points[i][1])
        if j != i and hypot(a - x, b - y) < own + (apart / 2 if apart < 2 * radius else 0.0):
            return True
    return False


def _crowding(points: Sequence[tuple[float, float]], i: int) -> float:
    x, y = points[i]
    return sum(1 / (1 + hypot(x - a, y - b)) for j, (a, b) in enumerate(points) if j != i)


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
