"""The check that no rollback is forgotten: a date that one holds is not made again until somebody releases it."""

from __future__ import annotations

import dagster as dg

from iot_platform.checks.outcome import Outcome, shown
from iot_platform.lake.lake import Lake

HELD_CHECK = "no_date_is_held"


def none_held(lake: Lake, table: str) -> Outcome:
    """Whether every date of the table may be made again; the held ones stand in the result."""
    snapshot = lake.snapshot(table)
    rows = [{"event_date": day, "rows": snapshot.rows_by_date.get(day, 0)} for day in snapshot.held_days]
    told = f"{len(rows)} date(s) are held by a rollback, until `iot rollback --table {table} --date … --release`"
    return Outcome(
        not rows,
        told if rows else "",
        shown(rows),
        figure=len(rows),
        unit="dates",
        warn_at=1.0,
        severity=dg.AssetCheckSeverity.WARN,
    )
