"""The one partitioning of the platform: UTC dates, from the first date of the settings to tomorrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import dagster as dg

from iot_platform.settings import Settings


def daily(settings: Settings) -> dg.DailyPartitionsDefinition:
    """UTC dates from ``first_date`` to tomorrow: a fast clock shortly before midnight must not meet an unknown partition."""
    return dg.DailyPartitionsDefinition(start_date=settings.first_date.isoformat(), timezone="UTC", end_offset=2)


def weekly(settings: Settings) -> dg.WeeklyPartitionsDefinition:
    """UTC weeks from Monday to Sunday, named by their Monday: from the first whole one to the last that is over."""
    return dg.WeeklyPartitionsDefinition(start_date=settings.first_date.isoformat(), day_offset=1, timezone="UTC")


def dates(keys: Iterable[str]) -> list[date]:
    return [date.fromisoformat(key) for key in keys]


def contiguous(days: Iterable[date]) -> list[tuple[date, date]]:
    """The dates as ranges without a gap, both ends included, oldest first."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if ranges and ranges[-1][1] == day - timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def capped(ranges: Sequence[tuple[date, date]], days: int) -> list[tuple[date, date]]:
    """The same ranges, none longer than ``days``."""
    pieces: list[tuple[date, date]] = []
    for first, last in ranges:
        start = first
        while start <= last:
            end = min(last, start + timedelta(days=days - 1))
            pieces.append((start, end))
            start = end + timedelta(days=1)
    return pieces
