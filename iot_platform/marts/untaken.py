"""Which dates of Silver and Gold the published marts are not made from yet: retention leaves those alone (ADR 0012)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import duckdb

from iot_platform.contracts.tables import TABLES
from iot_platform.lake import Lake
from iot_platform.lake.snapshot import Snapshot
from iot_platform.marts.sources import SOURCES
from iot_platform.marts.staging import EPHEMERAL

Levels = Mapping[date, int]


def untaken(lake: Lake) -> dict[str, list[date]]:
    """Per table the dates whose level is above the one in the published file; nothing where no marts were ever built."""
    published = lake.settings.marts
    if not published.exists():
        return {}
    with duckdb.connect(str(published), read_only=True) as connection:
        rows = connection.execute("select input, event_date, min(level) from _input_levels group by all").fetchall()
    taken: dict[str, dict[date, int]] = {}
    for view, day, level in rows:
        taken.setdefault(view, {})[day] = int(level)
    found: dict[str, list[date]] = {}
    for table in SOURCES:
        contract = TABLES[table]
        if contract.partition is None or contract.layer == "ops" or not lake.exists(table):
            continue
        levels = recorded(lake.snapshot(table))
        have = taken.get(contract.view, {})
        # What no file of its own is staged of is read by weeks: a week's level is the sum of its days'.
        missing = of_weeks(levels, have) if table in EPHEMERAL else [day for day in levels if levels[day] > have.get(day, 0)]
        if missing:
            found[table] = sorted(missing)
    return found


def recorded(snapshot: Snapshot) -> dict[date, int]:
    """The level of every date that has rows: what has none has nothing to lose."""
    return {day: snapshot.recorded_level(day) for day in snapshot.rows_by_date}


def of_weeks(levels: Levels, taken: Levels) -> list[date]:
    """The dates of weeks (by their Monday) that were made from less than these levels."""
    sums: dict[date, int] = {}
    for day, level in levels.items():
        sums[monday_of(day)] = sums.get(monday_of(day), 0) + level
    return [day for day in levels if sums[monday_of(day)] > taken.get(monday_of(day), 0)]


def monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())
