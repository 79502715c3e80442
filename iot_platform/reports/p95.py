"""The weekly report of event durations: the week's 95th percentiles by device type, and each day's beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from iot_platform.errors import InputError
from iot_platform.lake.lake import Lake
from iot_platform.lake.query import as_json, select
from iot_platform.reports.daily import cell

WEEK = timedelta(days=7)
WEEKLY = """
select device_type, days, events, excluded, mean, std, p95, days_with_p95, min_daily_p95, max_daily_p95
from duration_p95_weekly where week_start = '{monday}' order by device_type"""
DAILY = """
select event_date, device_type, events, excluded, mean, std, p95
from gold_duration_p95 where event_date between '{monday}' and '{sunday}' order by event_date, device_type"""


@dataclass(frozen=True)
class WeeklyP95:
    """One week, Monday to Sunday (UTC). Durations in ms. ``weekly``: a row a device type with enough events in the week;
    ``daily``: a row a date and device type with enough events on the date."""

    monday: date
    columns: Sequence[str]
    weekly: Sequence[Sequence[Any]]
    daily_columns: Sequence[str] = ()
    daily: Sequence[Sequence[Any]] = ()

    def as_csv(self) -> str:
        """The week's figures, one row a device type, numbers unrounded."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["week_start", *self.columns])
        writer.writerows(
            [self.monday.isoformat(), *("" if value is None else as_json(value) for value in row)] for row in self.weekly
        )
        return text.getvalue()

    def markdown(self) -> str:
        """The week and its days, for people."""
        sunday = self.monday + WEEK - timedelta(days=1)
        parts = [f"# Event durations, {self.monday} … {sunday} (UTC)"]
        if self.weekly:
            parts += [
                "95th percentiles in ms over the week's events, those beyond 3 sigma left out. They are made from the events"
                " and not from the days' percentiles.",
                _table(self.columns, self.weekly),
            ]
        else:
            parts.append("No device type had enough events in this week.")
        if self.daily:
            parts += ["## By day", _table(self.daily_columns, self.daily)]
        return "\n\n".join(parts) + "\n"


def weekly_p95(lake: Lake, monday: date) -> WeeklyP95:
    """The report of the week that begins on this Monday, from the mart ``duration_p95_weekly`` and ``gold/duration_p95``.

    Raises ``InputError`` for another day than a Monday and while there are no marts, ``LakeError`` for an unreadable table.
    """
    if monday.weekday():
        raise InputError(f"{monday} is no Monday", "Weeks begin on Mondays (UTC).")
    if not lake.settings.marts.exists():
        raise InputError("the marts are not built yet", "Build them: iot materialize --select marts")
    columns, weekly = select(lake, WEEKLY.format(monday=monday))
    daily_columns, daily = select(lake, DAILY.format(monday=monday, sunday=monday + WEEK - timedelta(days=1)))
    return WeeklyP95(monday, columns, weekly, daily_columns, daily)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(name.replace("_", " ") for name in columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(cell, row)) + " |" for row in rows)])
