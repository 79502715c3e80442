"""A date is weighed against the same weekday: not against other days, nor with too little history, nor before it is over."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from iot_platform.checks.catalog import date_checks
from iot_platform.checks.thresholds import Bounds, Threshold
from iot_platform.checks.volume import weigh
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at
from iot_platform_tests.checks.conftest import Inspect

WEEK = timedelta(weeks=1)
USUAL = Threshold(Bounds(2, 10), weeks=4, min_weeks=3)
TODAY = D + DAY


def history(*rows: int) -> dict[date, int]:
    """Rows of the weekday of ``D``, the newest week first; the day before has a thousand each week."""
    weeks = enumerate(rows, start=1)
    return {day: count for n, own in weeks for day, count in ((D - n * WEEK, own), (D - n * WEEK - DAY, 1000)) if count}


@pytest.mark.parametrize(
    ("rows", "figure", "passed"),
    [(100, 1, True), (199, 1.99, True), (51, 100 / 51, True), (200, 2, False), (10, 10, False), (0, 100, False)],
)
def test_more_and_fewer_are_judged_alike(rows: int, figure: float, passed: bool) -> None:
    outcome = weigh(history(100, 90, 110, 100) | {D: rows}, D, TODAY, USUAL, USUAL.bounds)
    assert outcome.figure == pytest.approx(figure) and outcome.passed == passed


def test_one_odd_week_does_not_move_the_median() -> None:
    assert weigh(history(100, 1, 100) | {D: 100}, D, TODAY, USUAL, USUAL.bounds).passed


def test_a_weekday_without_rows_counts_as_none_since_there_are_any() -> None:
    outcome = weigh(history(0, 0, 0, 100) | {D: 100}, D, TODAY, USUAL, USUAL.bounds)
    assert outcome.passed and outcome.description == "not judged: Tuesdays usually have no rows"


@pytest.mark.parametrize(
    ("weeks", "today", "why"),
    [((100, 100), TODAY, "2 week(s) of history"), ((100, 100, 100), D, "the date is not over"), ((), TODAY, "0 week(s)")],
)
def test_what_cannot_be_weighed_is_not_judged(weeks: tuple[int, ...], today: date, why: str) -> None:
    outcome = weigh(history(*weeks) | {D: 1}, D, today, USUAL, USUAL.bounds)
    assert outcome.passed and outcome.figure is None and outcome.description.startswith(f"not judged: {why}")


def test_a_table_may_have_bounds_of_its_own(small: SmallLake, inspect: Inspect) -> None:
    (check,) = [one for one in date_checks() if (one.table, one.name) == ("bronze/readings", "volume")]
    for back, rows in ((3, 10), (2, 10), (1, 10), (0, 40)):
        small.ingest([{"event_time": at(D - back * WEEK, 0) + DAY / rows * n} for n in range(rows)])
    assert not check.evaluate(inspect(), D).passed
    assert check.evaluate(inspect(volume={"overrides": [{"table": "bronze/readings", "warn": 5}]}), D).passed
    assert not check.evaluate(inspect(volume={"overrides": [{"table": "silver/readings", "warn": 5}]}), D).passed
