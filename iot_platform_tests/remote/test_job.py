"""A job's command line says everything that the job is, and what a job tells of a date is what is read of it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_platform.engines.materialize import DateResult
from iot_platform.errors import DataError, InputError, LakeError, PlatformError, ServiceError
from iot_platform.remote.job import Job, date_ranges, job_of, parse_dates
from iot_platform.remote.report import message, range_result

D = date(2026, 3, 10)
DAY = timedelta(days=1)
NOW = datetime(2026, 3, 20, 6, tzinfo=UTC)
SILENT = ServiceError("nothing was told", "look")
dates = st.sets(st.dates(date(2020, 1, 1), date(2020, 3, 31)), min_size=1)


@given(days=dates, force=st.booleans(), made=dates | st.just(set[date]()))
def test_the_command_line_is_the_whole_job(days: set[date], force: bool, made: set[date]) -> None:
    job = Job("silver/readings", tuple(sorted(days)), force, NOW, tuple(sorted(made)))
    assert job_of(job.arguments(), NOW + DAY) == job
    assert {day for day in days if job.forces(day)} == (days - made if force else set())


def test_neighbouring_dates_are_one_range() -> None:
    text = date_ranges([D + DAY, D, D + 2 * DAY, D + 5 * DAY])
    assert text == "2026-03-10..2026-03-12,2026-03-15"
    assert parse_dates(text) == [D, D + DAY, D + 2 * DAY, D + 5 * DAY]


def test_a_job_by_hand_runs_now_and_makes_only_what_is_stale() -> None:
    job = job_of(["--table", "gold/duration_p95", "--dates", "2026-03-10"], NOW)
    assert (job.days, job.force, job.now, job.transform.table) == ((D,), False, NOW, "gold/duration_p95")
    assert job.name == "iot gold/duration_p95 2026-03-10"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dates", "2026-03-41"], "'2026-03-41' is no date"),
        (["--dates", "2026-03-10..2026-03-09"], "ends before it begins"),
        (["--dates", "2026-03-10", "--now", "noon"], "'noon' is no time"),
        (["--dates", "2026-03-10", "--now", "2026-03-10T06:00:00"], "has no zone"),
    ],
)
def test_what_is_no_date_or_time_is_one_line(arguments: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        job_of(["--table", "silver/readings", *arguments], NOW)


def result(day: date, rows: int = 5) -> DateResult:
    return DateResult("silver/readings", day, rows, 3, 17, 1.5, "spark", {"bronze/readings": 2})


class Unheard(LakeError):
    """An error of a kind that the reader does not know."""


def test_what_is_told_of_each_date_is_what_is_read() -> None:
    days = [D + DAY * number for number in range(5)]
    outcomes: dict[date, DateResult | PlatformError] = {
        days[0]: result(days[0]),
        days[1]: DataError("health_pct: 101 > 100", "Nothing was committed.", [{"device_id": "d1"}], 7),
        days[2]: Unheard("no such disk", "mount it"),
        days[3]: result(days[3]),
    }
    told = [json.loads(json.dumps(message(day, outcome))) for day, outcome in outcomes.items()]
    told += ["a message of somebody else", message(days[3], result(days[3], rows=6))]
    read = range_result(told, days, SILENT)
    assert read.made == [result(days[0]), result(days[3], rows=6)]
    assert {day: (type(error), str(error)) for day, error in read.failed.items()} == {
        days[1]: (DataError, "health_pct: 101 > 100. Nothing was committed."),
        days[2]: (LakeError, "no such disk. mount it"),
        days[4]: (ServiceError, str(SILENT)),
    }
    broken = read.failed[days[1]]
    assert isinstance(broken, DataError) and (broken.offending, broken.count) == ([{"device_id": "d1"}], 7)
