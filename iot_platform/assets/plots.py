"""Small plots that stand in a materialization's metadata: a few figures drawn as an SVG image inside Markdown.

Pure functions of numbers; no plotting library. Dagster's UI shows such an image in place, from the text of the event alone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 356, 96
LEFT, TOP, FLOOR = 44, 18, 80  # right of the axis' figures, below the title, above the labels
BLUE, GREY, RED = "#4f6bed", "#8a8f98", "#d13438"
HOURS = range(24)
STEP = (WIDTH - LEFT) / len(HOURS)
MOST_ROWS = 12


def hourly_bars(title: str, by_hour: Mapping[int, float]) -> str:
    """A day as 24 bars, one an hour (UTC); an hour that is not given has none."""
    top = max([*by_hour.values(), 0.0])
    bars = [f"M{_x(hour)} {FLOOR}V{_y(by_hour[hour], top)}" for hour in HOURS if by_hour.get(hour, 0) > 0]
    drawn = f'<path d="{"".join(bars)}" stroke="{BLUE}" stroke-width="{STEP - 2:g}"/>'
    return _picture([*_frame(title, top), drawn])


def hourly_line(title: str, by_hour: Mapping[int, float], *, top: float, limit: float | None = None) -> str:
    """A day as a line over the hours (UTC) from 0 to ``top``, broken where hours are missing; ``limit`` is a red line."""
    points = {hour: f"{_x(hour)} {_y(by_hour[hour], top)}" for hour in HOURS if hour in by_hour}
    dots = "".join(f"M{point}h0" for point in points.values())
    lines = "".join(f"M{point}L{points[hour + 1]}" for hour, point in points.items() if hour + 1 in points)
    shapes = [
        f'<path d="{dots}" stroke="{BLUE}" stroke-width="4" stroke-linecap="round"/>',
        f'<path d="{lines}" stroke="{BLUE}"/>',
    ]
    if limit is not None:
        shapes.insert(0, f'<path d="M{LEFT} {_y(limit, top)}H{WIDTH}" stroke="{RED}" stroke-dasharray="4 3"/>')
    return _picture([*_frame(title, top), *shapes])


def named_bars(title: str, rows: Sequence[tuple[str, float]]) -> str:
    """A bar a name, in the order given, with its figure; of more than 12 the first 12, and how many are left out."""
    shown = rows[:MOST_ROWS]
    top = max([value for _, value in shown] + [0.0])
    room = WIDTH - 180
    shapes = [_text(0, 12, title, bold=True)]
    for number, (name, value) in enumerate(shown):
        y = TOP + 4 + number * 16
        width = room * value / top if top > 0 else 0
        shapes.append(_text(0, y + 10, name[:20]))
        shapes.append(f'<rect x="124" y="{y}" width="{width:.1f}" height="12" fill="{BLUE}"/>')
        shapes.append(_text(128 + width, y + 10, _short(value)))
    if len(rows) > len(shown):
        shapes.append(_text(0, TOP + 14 + len(shown) * 16, f"… and {len(rows) - len(shown)} more"))
    return _picture(shapes, TOP + 8 + 16 * (len(shown) + (len(rows) > len(shown))))


def markdown_image(svg: str, alternative: str) -> str:
    """The image as Markdown that needs no file and no server; ``alternative`` is read where it cannot be shown."""
    return f"![{alternative}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _x(hour: int) -> str:
    return f"{LEFT + (hour + 0.5) * STEP:g}"


def _y(value: float, top: float) -> str:
    room = FLOOR - TOP
    return f"{FLOOR - (room * min(value, top) / top if top > 0 else 0.0):.1f}"


def _text(x: float, y: float, text: str, *, bold: bool = False, anchor: str = "") -> str:
    weight = ' font-weight="bold"' if bold else ""
    side = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.4g}" y="{y:.4g}"{side}{weight}>{escape(text)}</text>'


def _frame(title: str, top: float) -> list[str]:
    """The title, the axis of values from 0 to ``top``, and the axis of hours."""
    return [
        _text(0, 12, title, bold=True),
        _text(LEFT - 4, TOP + 10, _short(top), anchor="end"),
        _text(LEFT - 4, FLOOR, "0", anchor="end"),
        f'<path d="M{LEFT} {FLOOR}H{WIDTH}" stroke="{GREY}"/>',
        *(_text(LEFT + hour * STEP, HEIGHT - 4, f"{hour:02d}") for hour in (0, 6, 12, 18)),
    ]


def _short(value: float) -> str:
    """At most four figures: ``1,234,567`` as ``1.23M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            divisor = 1e3 if letter == "k" else size
            return f"{value / divisor:.3g}{letter}"
    return f"{value:.4g}"


def _picture(shapes: Sequence[str], height: float = HEIGHT) -> str:
    # The UI may be dark or light: the plot brings its own ground.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" font-family="sans-serif"'
        f' font-size="10" fill="#333" stroke-width="1.5"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(shapes)}</svg>"
    )
