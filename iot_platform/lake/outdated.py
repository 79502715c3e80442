"""Which output dates another version of the code made: the transform's text or the table's contract was another then."""

from __future__ import annotations

from datetime import date

from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import daily_transforms
from iot_platform.lake.retention import closed_before
from iot_platform.transforms.catalog import code_version


def outdated(lake: Lake, since: date = date.min) -> dict[str, list[date]]:
    """Per derived table, in order of dependency, its dates from ``since`` on that were made by other code, oldest first.

    Dates that a rollback holds, or that are closed, are left out.
    """
    since = max(since, closed_before(lake) or date.min)
    found: dict[str, list[date]] = {}
    for transform in daily_transforms():
        if not lake.exists(transform.table):
            continue
        snapshot = lake.snapshot(transform.table)
        code = code_version(transform)
        days = [
            day
            for day in sorted(snapshot.recorded_days())
            if day >= since and not snapshot.is_made_by(day, code) and not snapshot.is_held(day)
        ]
        if days:
            found[transform.table] = days
    return found


def newest_date(lake: Lake) -> date | None:
    """The newest date that any daily table has, Bronze included; None in an empty lake."""
    tables = ["bronze/readings", *(transform.table for transform in daily_transforms())]
    days = [max(lake.snapshot(table).recorded_days(), default=None) for table in tables if lake.exists(table)]
    return max((day for day in days if day is not None), default=None)
