"""A range of dates, each made by itself: what became of them. Grain: one table, some dates (UTC)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date

from iot_platform.engines.materialize import DateResult
from iot_platform.errors import PlatformError


@dataclass
class RangeResult:
    """What became of the dates of one step: made (or found up to date), and failed, each with its error."""

    made: list[DateResult] = field(default_factory=list)
    failed: dict[date, PlatformError] = field(default_factory=dict)


def make_range(
    days: Iterable[date], make: Callable[[date], DateResult],
    tell: Callable[[date, DateResult | PlatformError], None] | None = None,
) -> RangeResult:  # fmt: skip
    """Make each date by itself: the platform's own errors are kept for the end, anything else is a defect and rises.

    ``tell`` is called after each date with what became of it.
    """
    result = RangeResult()
    for day in days:
        outcome: DateResult | PlatformError
        try:
            outcome = make(day)
            result.made.append(outcome)
        except PlatformError as error:
            outcome = error
            result.failed[day] = error
        if tell:
            tell(day, outcome)
    return result
