"""The weekly report says what the mart says, whole weeks only, and its files are whole or not there."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path

import duckdb
import pytest

from iot_platform.errors import InputError, PlatformError
from iot_platform.lake import Lake
from iot_platform.reports.files import is_written, report_path, write_report
from iot_platform.reports.p95 import weekly_p95
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, SmallLake
from iot_platform_tests.lake.conftest import p95_row

MONDAY = date(2026, 3, 9)


def publish(settings: Settings, *weeks: date) -> None:
    """A published file with the mart of these weeks, a device type each."""
    settings.marts.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(settings.marts)) as connection:
        connection.execute("create schema main_marts")
        connection.execute(
            "create table main_marts.duration_p95_weekly as select unnest($weeks)::date as week_start,"
            " 'light' as device_type, 3 as days, 1500 as events, 2 as excluded, 2.5 as mean, 1.0 as std, 1 / 3 as p95,"
            " 3 as days_with_p95, 4.0 as min_daily_p95, 5.5 as max_daily_p95",
            {"weeks": [week.isoformat() for week in weeks]},
        )


def test_the_week_is_shown_with_its_days_and_no_other(settings: Settings) -> None:
    publish(settings, MONDAY, MONDAY + 7 * DAY)
    small = SmallLake(Lake(settings))
    for day in (MONDAY - DAY, MONDAY, MONDAY + 6 * DAY, MONDAY + 7 * DAY):
        small.put("gold/duration_p95", day, [p95_row(day, "light")])
    found = weekly_p95(small.lake, MONDAY)
    text = found.markdown()
    assert "2026-03-09 … 2026-03-15" in text
    assert [row[0] for row in found.daily] == [MONDAY, MONDAY + 6 * DAY]
    (row,) = csv.DictReader(io.StringIO(found.as_csv()))
    assert row["week_start"] == "2026-03-09" and float(row["p95"]) == 1 / 3 and row["events"] == "1500"


def test_a_week_without_figures_is_a_report_too(settings: Settings) -> None:
    publish(settings, MONDAY)
    found = weekly_p95(Lake(settings), MONDAY + 7 * DAY)
    assert "No device type had enough events" in found.markdown()
    assert found.as_csv().count("\n") == 1


def test_other_days_than_mondays_and_missing_marts_are_one_line(settings: Settings) -> None:
    with pytest.raises(InputError, match="no Monday"):
        weekly_p95(Lake(settings), MONDAY + DAY)
    with pytest.raises(InputError, match="not built yet"):
        weekly_p95(Lake(settings), MONDAY)


def test_files_are_replaced_and_a_folder_that_cannot_be_made_is_one_line(settings: Settings) -> None:
    assert not is_written(settings, "p95", MONDAY)
    for text in ("one", "two"):
        paths = write_report(settings, "p95", MONDAY, {"md": text, "csv": "a,b"})
        assert [path.suffix for path in paths] == [".csv", ".md"] and paths[-1].read_text() == text
    assert is_written(settings, "p95", MONDAY) and paths[-1] == report_path(settings, "p95", MONDAY)
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["2026-03-09.csv", "2026-03-09.md"]
    Path(settings.reports / "daily").write_text("in the way")
    with pytest.raises(PlatformError, match="cannot be written"):
        write_report(settings, "daily", MONDAY, {"md": ""})
