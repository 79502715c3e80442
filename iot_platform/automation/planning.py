"""Which runs the stale dates ask for: a pure function of what is stale, what is being made and what is blocked.

Dates that follow each other and need the same tables are one run. A date that reads what another run of the plan, or a
run in progress, is about to make waits for a later look: its level will still say so then. Nothing is remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from iot_platform.automation.partitions import capped, contiguous

Made = tuple[str, date]  # an output: table and date
MAX_DATES = 31


@dataclass(frozen=True)
class Request:
    """One run: these tables, on all dates from first to last."""

    tables: tuple[str, ...]
    first: date
    last: date

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    def identity(self, level: Callable[[str, date], int]) -> str:
        """The same for the same tables, dates and levels of inputs; another as soon as an input moves on."""
        levels = [f"{table} {day} {level(table, day)}" for table in self.tables for day in self.days]
        return hashlib.sha256("\n".join(levels).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Plan:
    """The runs to ask for, and the outputs that wait: for another run, or for a check to pass."""

    requests: tuple[Request, ...]
    waiting: frozenset[Made] = frozenset()
    blocked: frozenset[Made] = frozenset()


def plan(
    stale: Mapping[str, Iterable[date]],
    reads: Mapping[str, Mapping[str, int]],
    *,
    moved: Collection[Made] | None = None,
    in_progress: Collection[Made] = (),
    failing: Collection[Made] = (),
    given_up: Collection[Made] = (),
    max_dates: int = MAX_DATES,
) -> Plan:
    """Turn stale outputs into runs.

    ``stale``: dates by table, tables in order of dependency. ``reads``: per table its inputs and how many days each
    looks back. ``moved``: the stale outputs whose own inputs moved (the others only wait for one that will be made;
    default: all). ``in_progress``: outputs that a run is making. ``failing``: outputs of which a blocking check failed:
    what reads them on the same date is blocked, unless they are made again first. ``given_up``: outputs that cannot be
    made of their inputs; they are left alone, and what reads them is made without them.
    """
    order = list(stale)
    candidates = [(table, day) for table, days in stale.items() for day in days if (table, day) not in given_up]
    wanted: set[Made] = set()
    for output in candidates:
        if moved is None or output in moved or _sources(output, reads) & wanted:
            wanted.add(output)
    blocked: set[Made] = set()
    for table, day in candidates:
        same_date = {(source, day) for source in reads.get(table, {})}
        if same_date & blocked or any(source in failing and source not in wanted for source in same_date):
            blocked.add((table, day))
    blocked &= wanted
    waiting = wanted & set(in_progress)
    while True:
        for output in candidates:
            if output in wanted and _sources(output, reads) & (waiting | set(in_progress)):
                waiting.add(output)
        requests = _group(wanted - waiting - blocked, order, max_dates)
        crossing = _crossing(requests, reads)
        if not crossing:
            return Plan(tuple(requests), frozenset(waiting - blocked), frozenset(blocked))
        waiting |= crossing


def _sources(output: Made, reads: Mapping[str, Mapping[str, int]]) -> set[Made]:
    table, day = output
    return {
        (source, day - timedelta(days=back)) for source, days in reads.get(table, {}).items() for back in range(days + 1)
    }


def _group(outputs: Collection[Made], order: list[str], max_dates: int) -> list[Request]:
    tables_of: dict[date, set[str]] = {}
    for table, day in outputs:
        tables_of.setdefault(day, set()).add(table)
    days_of: dict[tuple[str, ...], list[date]] = {}
    for day, tables in tables_of.items():
        days_of.setdefault(tuple(sorted(tables, key=order.index)), []).append(day)
    requests = [
        Request(tables, first, last)
        for tables, days in days_of.items()
        for first, last in capped(contiguous(days), max_dates)
    ]
    return sorted(requests, key=lambda request: (request.first, request.last))


def _crossing(requests: list[Request], reads: Mapping[str, Mapping[str, int]]) -> set[Made]:
    """Outputs that read what another request of the same plan is about to make."""
    owner = {(table, day): n for n, request in enumerate(requests) for table in request.tables for day in request.days}
    return {output for output, n in owner.items() if any(owner.get(source, n) != n for source in _sources(output, reads))}
