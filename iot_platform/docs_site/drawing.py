"""Drawings as SVG, made here from names alone: the graph of tables in layers, and where a table's columns come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from iot_platform.docs_site.graph import Lineage

ROW, BOX, CHARACTER, PADDING = 26, 20, 7.3, 10
GAP = 70  # between two layers, where the edges run


def layers(reads: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How far each table is from the sources: one more than the farthest that it reads. What reads itself does so once."""
    found: dict[str, int] = {}

    def layer(name: str, behind: frozenset[str]) -> int:
        if name not in found:
            inputs = [one for one in reads.get(name, ()) if one in reads and one not in behind]
            found[name] = 1 + max((layer(one, behind | {name}) for one in inputs), default=-1)
        return found[name]

    for name in reads:
        layer(name, frozenset({name}))
    return found


def table_graph(reads: Mapping[str, Sequence[str]], target: Callable[[str], str]) -> str:
    """Every table as a box that leads to its page, left to right; ``reads``: per table what it reads, in drawing order."""
    by_layer: dict[int, list[str]] = {}
    for name, number in layers(reads).items():
        by_layer.setdefault(number, []).append(name)
    place: dict[str, tuple[float, float, float]] = {}  # left, top, width
    left = 4.0
    for number in sorted(by_layer):
        # A table stands about as high as what it reads, so that edges seldom cross.
        def height(name: str) -> float:
            tops = [place[one][1] for one in reads[name] if one in place]
            return sum(tops) / len(tops) if tops else 0.0

        names = sorted(by_layer[number], key=height) if number else by_layer[number]
        width = max(len(name) for name in names) * CHARACTER + 2 * PADDING
        for row, name in enumerate(names):
            place[name] = (left, 4.0 + row * (ROW + 4), width)
        left += width + GAP
    tallest = max(len(names) for names in by_layer.values()) * (ROW + 4) if by_layer else 0
    edges = [
        edge((place[one][0] + place[one][2], place[one][1]), place[name][:2], f"{one} → {name}")
        for name in place
        for one in reads[name]
        if one in place and place[one][0] < place[name][0]
    ]
    boxes = [box(name, *place[name], link=target(name)) for name in place]
    return svg(left - GAP + 4, tallest + 8, "The tables and what each reads", [*edges, *boxes])


def column_graph(table: str, lineage: Lineage) -> str:
    """The columns of a table on the right, the columns that they are made from on the left, and a line for each."""
    sources = sorted({source for found in lineage.values() for source in found})
    if not sources:
        return ""
    rows: list[tuple[str, str]] = []  # (table, column); a table's name heads its columns
    for name in dict.fromkeys(one for one, _ in sources):
        rows += [(name, ""), *(source for source in sources if source[0] == name)]
    width = max(len(column or name) for name, column in rows) * CHARACTER + 2 * PADDING
    own_left, own_width = width + 200, max(map(len, (*lineage, table))) * CHARACTER + 2 * PADDING
    top = {row: 4.0 + number * BOX for number, row in enumerate(rows)}
    own_top = {name: 4.0 + number * BOX for number, name in enumerate(lineage, start=1)}
    edges = [
        edge((4 + width, top[source]), (own_left, own_top[name]), f"{source[0]}.{source[1]} → {name}", BOX)
        for name, found in lineage.items()
        for source in found
    ]
    left_side = [
        box(column, 4, top[name, column], width, height=BOX - 3) if column else heading(name, 4, top[name, column])
        for name, column in rows
    ]
    own = [heading(table, own_left, 4.0)]
    own += [box(name, own_left, own_top[name], own_width, height=BOX - 3, kind="own") for name in lineage]
    height = max(len(rows), len(lineage) + 1) * BOX + 8
    return svg(own_left + own_width + 4, height, f"Where the columns of {table} come from", [*edges, *left_side, *own])


def edge(start: tuple[float, float], end: tuple[float, float], title: str, height: float = ROW) -> str:
    """A line between two boxes' corners, right and left; its name shows when it is pointed at."""
    (x1, y1), (x2, y2) = start, end
    middle, down = (x1 + x2) / 2, height / 2 - 1
    curve = f"M{x1:.0f} {y1 + down:.0f}C{middle:.0f} {y1 + down:.0f} {middle:.0f} {y2 + down:.0f} {x2:.0f} {y2 + down:.0f}"
    return f'<path class="edge" d="{curve}"><title>{escape(title)}</title></path>'


def box(
    name: str, x: float, y: float, width: float, *, link: str = "", height: float = ROW - 2, kind: str = "box"
) -> str:
    """A named box, with a link if one is given."""
    drawn = (
        f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="4"/>'
        f'<text x="{x + PADDING:.0f}" y="{y + height / 2 + 4:.0f}">{escape(name)}</text>'
    )
    return f'<a href="{escape(link)}">{drawn}</a>' if link else drawn


def heading(name: str, x: float, y: float) -> str:
    return f'<text class="head" x="{x + 2:.0f}" y="{y + BOX / 2 + 4:.0f}">{escape(name)}</text>'


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """The drawing: as wide as it is, scrolled where the page is narrower."""
    return (
        f'<div class="wide"><svg role="img" aria-label="{escape(title)}" style="max-width:none" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">{"".join(parts)}</svg></div>'
    )
