"""Line charts as SVG that follows the colours of the page."""
import math
from html import escape
from typing import List, NamedTuple, Optional, Sequence, Tuple

from .page import colour, shown

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 34
"""Margins, in units of the drawing."""
MOST = 300
"""Points of a line; longer ones are averaged."""


class Line(NamedTuple):
    """A line of a chart."""
    name: str
    points: Sequence[Tuple[float, float]]
    colour: int = 0
    is_dashed: bool = False
    has_marks: bool = False


def chart(title: str, lines: Sequence[Line], x: str, y: str, log: bool = False,
          y_from: Optional[float] = None, square: bool = False) -> str:
    """A chart with its title and the names of its lines.

    Args:
        title (str): Plain text.
        lines (Sequence[Line]): The lines. Values that are not finite are left out; with ``log``,
            those of 0 or less, too.
        x (str): Name of the horizontal axis.
        y (str): Name of the vertical axis.
        log (bool): Whether the vertical axis is logarithmic. Defaults to False.
        y_from (float, optional): Lower end of the vertical axis. Defaults to None, the smallest
            value.
        square (bool): Whether both axes go from 0 to 1. Defaults to False.

    Returns:
        str: HTML; '' if no line has a point.
    """
    kept = [line._replace(points=thinned([
        (a, b) for a, b in line.points if math.isfinite(b) and (b > 0 or not log)]))
        for line in lines]
    kept = [line for line in kept if line.points]
    if not kept:
        return ''
    all_x, all_y = ([point[side] for line in kept for point in line.points] for side in (0, 1))
    ends_x, ends_y = (min(all_x), max(all_x)), (min(all_y), max(all_y))
    if y_from is not None:
        ends_y = min(y_from, ends_y[0]), ends_y[1]
    if square:
        ends_x = ends_y = 0., 1.
    ends_x, ends_y = _wide(ends_x), _wide(ends_y, log)

    def place(point: Tuple[float, float]) -> str:
        return f'{_across(point[0], ends_x):.1f},{_up(point[1], ends_y, log):.1f}'

    drawn: List[str] = []
    for tick in ticks(*ends_y, log=log):
        height = _up(tick, ends_y, log)
        drawn.append(f'<path class="axis" d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}"/><text x="'
                     f'{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{shown(tick)}</text>')
    for tick in ticks(*ends_x):
        drawn.append(f'<text x="{_across(tick, ends_x):.1f}" y="{HEIGHT - BOTTOM + 16}" '
                     f'text-anchor="middle">{shown(tick)}</text>')
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x)}</text>')
    if square:
        drawn.append(f'<path class="axis" stroke-dasharray="4 4" d="M{place((0, 0))}L'
                     f'{place((1, 1))}"/>')
    for line in kept:
        dashes = ' stroke-dasharray="6 4"' if line.is_dashed else ''
        drawn.append(f'<polyline fill="none" stroke-width="2" style="stroke:{colour(line.colour)}"'
                     f'{dashes} points="{" ".join(map(place, line.points))}"/>')
        if line.has_marks or len(line.points) == 1:
            drawn += [f'<circle r="3.5" style="fill:{colour(line.colour)}" '
                      'cx="{}" cy="{}"/>'.format(*place(point).split(',')) for point in line.points]
    keys = ''.join(
        f'<li><span{" class=" + chr(34) + "dashed" + chr(34) if line.is_dashed else ""} '
        f'style="color:{colour(line.colour)}"></span>{escape(line.name)}</li>' for line in kept)
    names = ', '.join(line.name for line in kept)
    return (f'<figure><h3>{escape(title)}</h3><ul class="keys">{keys}</ul>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: '
            f'{escape(names)}">{"".join(drawn)}</svg><figcaption>{escape(y)}</figcaption></figure>')


def thinned(points: Sequence[Tuple[float, float]]) -> List[Tuple[float, float]]:
    """At most :data:`MOST` points: means of neighbours.

    Example:
        >>> len(thinned([(n, 0.) for n in range(1000)]))
        250
    """
    size = math.ceil(len(points) / MOST)
    return [tuple(sum(one) / len(one) for one in zip(*points[n:n + size]))  # type: ignore[misc]
            for n in range(0, len(points), size or 1)]


def ticks(low: float, high: float, log: bool = False) -> List[float]:
    """Round values between two ends.

    Example:
        >>> ticks(0, 10)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        >>> ticks(0.5, 200, log=True)
        [1.0, 10.0, 100.0]
    """
    if log:
        found = [10.**n for n in range(math.ceil(math.log10(low) - 1e-9),
                                       math.floor(math.log10(high) + 1e-9) + 1)]
        if len(found) > 1:
            return found[::math.ceil(len(found) / 6)]
    rough = (high - low) / 5
    size = 10.**math.floor(math.log10(rough))
    width = next(size * one for one in (1, 2, 5, 10) if size * one >= rough * 0.999)
    first = math.ceil(low / width - 1e-9)
    return [round(number * width, 12)
            for number in range(first, math.floor(high / width + 1e-9) + 1)]


def _wide(ends: Tuple[float, float], log: bool = False) -> Tuple[float, float]:
    """Ends that differ, with a margin."""
    low, high = ends
    if low == high:
        margin = abs(low) / 2
        return (low / 2, high * 2) if log else (low - margin, high + (margin or 1))
    return low, high


def _across(value: float, ends: Tuple[float, float]) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - ends[0]) / (ends[1] - ends[0])


def _up(value: float, ends: Tuple[float, float], log: bool) -> float:
    if log:
        value, ends = math.log(value), (math.log(ends[0]), math.log(ends[1]))
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - ends[0]) / (ends[1] - ends[0])
