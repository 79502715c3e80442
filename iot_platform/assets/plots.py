"""Small plots that stand in a materialization's metadata: pure functions of figures, drawn without a plotting library.

Dagster's UI shows Markdown in place while it is shorter than 1,000 characters, and behind a link from there on. So a plot is
a terse SVG image inside its Markdown (it needs no file and no server), or a table whose cells are bars of block letters.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

IN_PLACE = 1000  # characters of Markdown; from there on the UI hides it
HOURS = range(24)
LEFT, TOP, FLOOR, STEP = 40, 4, 64, 12  # px: right of the axis' figures, below the edge, above the labels; an hour
WIDTH, HEIGHT = LEFT + len(HOURS) * STEP, FLOOR + 14
BLUE, RED = "#46e", "#d33"
BARS, BAR = 12, 16  # named bars at most, and letters of the longest


def hourly_bars(name: str, by_hour: Mapping[int, float]) -> str:
    """A day as 24 bars, one an hour (UTC), as Markdown; an hour that is not given has none."""
    top = max([*by_hour.values(), 0.0])
    bars = "".join(f"M{_x(hour)} {FLOOR}V{_y(by_hour[hour], top)}" for hour in HOURS if by_hour.get(hour, 0) > 0)
    return _image(name, top, f'<path stroke="{BLUE}" stroke-width="10" d="{bars}"/>')


def hourly_line(name: str, by_hour: Mapping[int, float], *, top: float, limit: float) -> str:
    """A day as a line over the hours (UTC) from 0 to ``top``, as Markdown: broken where hours are missing, a red line at
    ``limit``."""
    line = "".join(
        f"{'L' if hour - 1 in by_hour else 'M'}{_x(hour)} {_y(by_hour[hour], top)}{'' if hour - 1 in by_hour else 'h0'}"
        for hour in HOURS
        if hour in by_hour
    )
    bound = f'<path stroke="{RED}" d="M{LEFT} {_y(limit, top)}H{WIDTH}"/>'
    # Round ends make a dot of an hour whose neighbours are missing.
    drawn = f'<path stroke="{BLUE}" stroke-width="3" stroke-linecap="round" fill="none" d="{line}"/>'
    return _image(name, top, bound + drawn)


def named_bars(what: str, unit: str, rows: Sequence[tuple[str, float]]) -> str:
    """A figure and a bar a name, in this order, as Markdown; of more than 12 the first 12, and how many are left out."""
    shown = rows[:BARS]
    top = max([value for _, value in shown] + [0.0])
    lines = [f"| {what} | {unit} | |", "| --- | ---: | --- |"]
    for name, value in shown:
        bar = "█" * round(BAR * value / top) if top > 0 else ""
        lines.append(f"| {name[:20].replace('|', '/')} | {short(value)} | {bar} |")
    if len(rows) > len(shown):
        lines.append(f"\n… and {len(rows) - len(shown)} more")
    return "\n".join(lines)


def short(value: float) -> str:
    """At most four figures: ``1,234,567`` as ``1.23M``."""
    for size, letter, from_size in ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e4)):
        if abs(value) >= from_size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.4g}"


def _x(hour: int) -> int:
    return LEFT + hour * STEP + STEP // 2


def _y(value: float, top: float) -> int:
    return FLOOR - (round((FLOOR - TOP) * min(value, top) / top) if top > 0 else 0)


def _image(name: str, top: float, shapes: str) -> str:
    """The shapes above the axis of hours, beside the largest figure. The UI may be dark: the plot brings its own ground."""
    hours = "".join(f'<text x="{LEFT + hour * STEP}" y="{HEIGHT - 3}">{hour:02d}</text>' for hour in HOURS[::6])
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-size="10">'
        f'<path fill="#fff" d="M0 0H{WIDTH}V{HEIGHT}H0z"/><text x="2" y="12">{short(top)}</text>{hours}{shapes}</svg>'
    )
    return f"![{name}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
