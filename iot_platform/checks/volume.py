"""Whether a date has about as many rows as the same weekday usually has. Counts come from the Delta log, not from data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

from iot_platform.checks.inspection import Inspection
from iot_platform.checks.outcome import Outcome, judged, not_judged, shown
from iot_platform.checks.thresholds import Bounds, Threshold

TIMES = "times"


@dataclass(frozen=True)
class Volume:
    """A check of the rows of a date of ``table``."""

    table: str

    def __call__(self, inspection: Inspection, day: date) -> Outcome:
        threshold = inspection.thresholds["volume"]
        counts = inspection.lake.snapshot(self.table).rows_by_date
        return weigh(counts, day, inspection.now.date(), threshold, threshold.of(table=self.table))


def same_weekday(counts: Mapping[date, int], day: date, weeks: int) -> dict[date, int]:
    """Rows of the same weekday in the weeks before, newest first; from the oldest date with rows on, none counts as 0."""
    oldest = min(counts, default=day)
    before = [day - timedelta(weeks=number) for number in range(1, weeks + 1)]
    return {one: counts.get(one, 0) for one in before if one >= oldest}


def weigh(counts: Mapping[date, int], day: date, today: date, threshold: Threshold, bounds: Bounds) -> Outcome:
    """How many times more or fewer rows than the median of the same weekdays; ``today`` (UTC) is not over yet."""
    rows = counts.get(day, 0)
    history = same_weekday(counts, day, threshold.weeks)
    usual = median(history.values()) if history else 0
    if day >= today:
        return not_judged("the date is not over", bounds, TIMES, rows=rows)
    if len(history) < max(threshold.min_weeks, 1):
        why = f"{len(history)} week(s) of history, judged from {threshold.min_weeks} on"
        return not_judged(why, bounds, TIMES, rows=rows)
    if not usual:
        return not_judged(f"{day:%A}s usually have no rows", bounds, TIMES, rows=rows)
    more, fewer = rows / usual, usual / max(rows, 1)
    times = max(more, fewer)
    which = "more" if more > fewer else "fewer"
    said = f"{rows:,} rows, {times:.1f} times {which} than the median of the last {len(history)} {day:%A}s ({usual:,.0f})"
    outcome = judged(times, bounds, TIMES, said, {"rows": rows, "median": float(usual), "weeks": len(history)})
    if outcome.passed:
        return outcome
    compared = [{"event_date": one, "rows": count} for one, count in ({day: rows} | history).items()]
    return judged(times, bounds, TIMES, said, {**outcome.metadata, **shown(compared)})
