"""Small drawings as SVG text: a page shows them at once, at any width, and needs no file."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

WIDTH, HEIGHT = 320, 190
"""Of a chart, in its own units."""
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 26, 32
"""Margins of a chart's axes."""
INK, GRID = "#333", "#e4e4e4"


def polyline(points: np.ndarray, *, closed: bool = False, **style: Any) -> str:
    """Points (n, 2) joined by lines."""
    tag, text = "polygon" if closed else "polyline", " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    filled = {} if closed else {"fill": "none"}
    return f'<{tag} points="{text}"{_attributes(filled | style)}/>'


def circle(centre: Sequence[float] | np.ndarray, radius: float, **style: Any) -> str:
    """A circle round a point (2)."""
    x, y = centre
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"{_attributes(style)}/>'


def text(x: float, y: float, words: str, **style: Any) -> str:
    """Words at a place."""
    usual = {"font_size": 11, "fill": INK}
    return f'<text x="{x:.1f}" y="{y:.1f}"{_attributes(usual | style)}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, **style: Any) -> str:
    """A line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f"<line {ends}{_attributes(style)}/>"


def moved(kind: str, values: Sequence[str], seconds: float, part: str) -> str:
    """Something that moves again and again.

    Args:
        kind: `translate` or `rotate`.
        values: where it is, at even steps in time, as SVG has it; the first is also for browsers
            that do not move it.
        seconds: s; from the first value to the last.
        part: what moves.
    """
    return (
        f'<g transform="{kind}({values[0]})"><animateTransform attributeName="transform" '
        f'type="{kind}" values="{";".join(values)}" dur="{seconds:.1f}s" '
        f'repeatCount="indefinite"/>{part}</g>'
    )


def drawing(name: str, title: str, size: tuple[float, float], parts: Iterable[str]) -> str:
    """A whole drawing, as wide as there is room for.

    Args:
        name: its class on the page.
        title: what it shows, read out to those who do not see it.
        size: its width and height, in its own units.
        parts: what is drawn, the lowest first.
    """
    width, height = size
    return (
        f'<svg class="nsf-{name}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg" '
        'font-family="system-ui, sans-serif">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


class Series(NamedTuple):
    """One line of a chart.

    Attributes:
        name: in the legend; empty for a line that has no entry.
        colour: as CSS has it.
        x: (n).
        y: (n).
        dashes: as SVG's `stroke-dasharray`.
    """

    name: str
    colour: str
    x: np.ndarray
    y: np.ndarray
    dashes: str = ""


def chart(
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    y_range: tuple[float, float] | None = None,
    x_label: str = "time (s)",
) -> str:
    """A line chart with axes.

    Args:
        name: its class on the page.
        title: above it, with the unit of y.
        series: the lines, at least one.
        y_range: of the axis; that of the values if None.
        x_label: below it.
    """
    xs, ys = (np.concatenate([getattr(each, axis) for each in series]) for axis in "xy")
    low, high = (float(ys.min()), float(ys.max())) if y_range is None else y_range
    high = high if high > low else low + 1.0
    start, end = float(xs.min()), float(xs.max())
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        across = LEFT + (np.asarray(x) - start) / ((end - start) or 1.0) * (right - LEFT)
        up = bottom - (np.asarray(y) - low) / (high - low) * (bottom - TOP)
        return np.stack([across, up], axis=-1)

    parts = []
    for value in ticks(low, high):
        y = at(start, value)[1]
        parts.append(line(LEFT, y, right, y, stroke=GRID))
        parts.append(text(LEFT - 5, y + 4, f"{value:g}", text_anchor="end"))
    for value in ticks(start, end):
        x = at(value, low)[0]
        parts.append(line(x, TOP, x, bottom, stroke=GRID))
        parts.append(text(x, bottom + 14, f"{value:g}", text_anchor="middle"))
    parts.append(text((LEFT + right) / 2, HEIGHT - 4, x_label, text_anchor="middle"))
    for each in series:
        dashes: dict[str, Any] = {"stroke_dasharray": each.dashes} if each.dashes else {}
        points = at(each.x, each.y)
        parts.append(polyline(points, stroke=each.colour, stroke_width=1.8, **dashes))
    parts.append(text(4, 15, title, font_weight=600, font_size=12))
    place = right
    for each in reversed([each for each in series if each.name]):
        parts.append(text(place, 15, each.name, text_anchor="end", fill=each.colour))
        place -= 7 * len(each.name) + 10
    return drawing(name, title, (WIDTH, HEIGHT), parts)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high, at most about `most`."""
    rough = (high - low) / most
    if not rough > 0.0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _attributes(style: dict[str, Any]) -> str:
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
