"""How the commands speak: tables and one line a step for people, JSON alone on stdout for programs, errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from time import perf_counter
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from iot_platform.errors import InputError

# A pipe or a CI log has no width of its own; 80 columns would cut the tables.
WIDTH = None if sys.stdout.isatty() else 140

out = Console(width=WIDTH, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def emit_json(value: Any) -> None:
    """Print one JSON document on stdout; infinities and NaN, which JSON lacks, become null."""
    sys.stdout.write(json.dumps(_finite(value), ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, limit: int = 0) -> Table:
    """A table for people: numbers to the right, floats to four figures after the point, null as a dash."""
    shown = Table(title=escape(title) or None, title_justify="left", header_style="bold", title_style="bold")
    for position, name in enumerate(columns):
        numeric = any(isinstance(row[position], (int, float)) and not isinstance(row[position], bool) for row in rows)
        shown.add_column(escape(name), justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows[:limit] if limit else rows:
        shown.add_row(*(escape(_cell(value)) for value in row))
    if limit and len(rows) > limit:
        shown.caption = f"{len(rows) - limit} more rows"
    return shown


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4f}".rstrip("0").rstrip(".")
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S").removesuffix(" 00:00:00")
        case _:
            return str(value)


@dataclass
class Step:
    """One line of work in progress. ``doing`` shows what it is at; ``said`` is what its closing line shall tell."""

    what: str
    spinner: Status
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def doing(self, now: str) -> None:
        self.spinner.update(f"{escape(self.what)}: {escape(now)}")

    def say(self, *words: str) -> None:
        self.said.extend(words)


@contextmanager
def step(what: str) -> Iterator[Step]:
    """One line a step on stderr: a spinner while it runs, then what was done and how long it took."""
    began = perf_counter()
    with err.status(escape(what)) as spinner:
        running = Step(what, spinner)
        yield running
    running.seconds = perf_counter() - began
    result = f": {escape(', '.join(running.said))}" if running.said else ""
    err.print(f"[green]✓[/green] {escape(what)}{result} [dim]({running.seconds:.1f} s)[/dim]")


def parse_day(text: str, option: str) -> date:
    """A date from the command line: YYYY-MM-DD, ``today`` or ``yesterday`` (UTC)."""
    today = datetime.now(UTC).date()
    if text in ("today", "yesterday"):
        return date.fromordinal(today.toordinal() - (text == "yesterday"))
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} {text!r} is no date", "Write it as YYYY-MM-DD, today or yesterday.") from None


def parse_range(first: str | None, last: str | None) -> tuple[date, date] | None:
    """Both ends included; one alone stands for a single day, none for every date."""
    if first is None and last is None:
        return None
    start = parse_day(first or last or "", "--from" if first else "--to")
    end = parse_day(last or first or "", "--to" if last else "--from")
    if end < start:
        raise InputError(f"--to {end} lies before --from {start}", "Turn them round.")
    return start, end


FromOption = typer.Option("--from", help="first date (UTC), included: YYYY-MM-DD, today or yesterday; alone: just that date")
ToOption = typer.Option("--to", help="last date (UTC), included")
JsonOption = typer.Option("--json", help="JSON on stdout and nothing else there")
