"""Freshness by date: a closed date that is older than its inputs is told of, and told of again when it is made."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from iot_platform.automation import date_freshness
from iot_platform.automation.date_freshness import (
    CHECK,
    WINDOW_DAYS,
    closed_dates,
    date_freshness_checks,
    date_freshness_sensor,
    evaluations,
    stale_dates,
    to_tell,
)
from iot_platform.lake.levels import daily_transforms
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at
from iot_platform_tests.automation.test_level_sensor import Clock, heal

SOON = at(D + 5 * DAY, 0, 1)  # the date after the last of the lake's, and four more, are over
TABLES = {transform.table for transform in daily_transforms()}


@pytest.fixture
def platform(settings: Settings, small: SmallLake) -> Clock:
    """A healed lake of four dates."""
    for n in range(4):
        small.day(D + n * DAY, readings=2)
    platform = Clock(settings)
    platform.moment = SOON
    heal(platform)
    platform.engine.close()
    return platform


def stale(platform: Clock) -> dict[str, list[str]]:
    found = stale_dates(platform.lake, platform.now())
    return {table: [str(row["event_date"]) for row in rows] for table, rows in found.items() if rows}


def test_the_window_is_what_is_over_and_not_today() -> None:
    days = closed_dates(SOON)
    assert len(days) == WINDOW_DAYS and days[-1] == D + 4 * DAY and days == sorted(days)


def test_all_dates_are_fresh_once_all_is_made(platform: Clock) -> None:
    assert stale(platform) == {}
    assert set(stale_dates(platform.lake, SOON)) == TABLES


def test_a_late_reading_makes_its_date_stale_and_making_it_makes_it_fresh(platform: Clock, small: SmallLake) -> None:
    small.day(D, readings=1)
    found = stale(platform)
    assert found["silver/readings"] == ["2026-03-10", "2026-03-11"]  # its date, and the one that looks back on it
    assert found["gold/daily_summary"][0] == "2026-03-10"
    heal(platform)
    platform.engine.close()
    assert stale(platform) == {}


def test_making_another_date_leaves_it_stale(platform: Clock, small: SmallLake) -> None:
    small.day(D, readings=1)
    small.put("silver/readings", D + 3 * DAY, [], level=10**18)
    assert stale(platform)["silver/readings"] == ["2026-03-10", "2026-03-11"]


def test_a_date_beyond_the_window_is_none_of_it(platform: Clock, small: SmallLake) -> None:
    small.day(D - 30 * DAY, readings=1)
    assert "2026-02-08" not in json.dumps(stale(platform))


def test_the_result_shows_the_stale_dates_newest_first_and_only_warns(platform: Clock, small: SmallLake) -> None:
    small.day(D, readings=1)
    results = {event.asset_key.path[-1]: event for event in evaluations(stale_dates(platform.lake, SOON), SOON)}
    result = results["sensor_windows"]
    assert not result.passed and result.severity == dg.AssetCheckSeverity.WARN
    assert result.metadata["stale_dates"].value == 2 and "2 of the last 14" in (result.description or "")
    text = str(result.metadata["offending"].value)
    assert text.index("2026-03-11") < text.index("2026-03-10")


def test_the_checks_run_by_themselves_and_for_one_table_alone(platform: Clock, small: SmallLake) -> None:
    small.day(D, readings=1)
    asset = dg.AssetSpec(["silver", "readings"])
    check = date_freshness_checks()
    definitions = dg.Definitions(assets=[asset], asset_checks=[check], resources={"platform": platform})
    job = definitions.resolve_implicit_global_asset_job_def()
    key = dg.AssetCheckKey(asset.key, CHECK)
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.get_subset(asset_check_selection={key}).execute_in_process(instance=instance)
    assert [(one.asset_check_key, one.passed) for one in result.get_asset_check_evaluations()] == [(key, False)]


def test_the_sensor_tells_what_changed_and_repeats_itself_seldom(platform: Clock, small: SmallLake) -> None:
    first, cursor = to_tell(stale_dates(platform.lake, SOON), SOON, None)
    assert len(first) == len(TABLES) and all(event.passed for event in first)
    again, cursor = to_tell(stale_dates(platform.lake, SOON), SOON + timedelta(minutes=5), cursor)
    assert again == []
    small.day(D, readings=1)
    changed, cursor = to_tell(stale_dates(platform.lake, SOON), SOON + timedelta(minutes=10), cursor)
    assert changed and not any(event.passed for event in changed)
    repeated, _ = to_tell(stale_dates(platform.lake, SOON), SOON + timedelta(hours=7), cursor)
    assert len(repeated) == len(TABLES)


def test_dagster_takes_what_the_sensor_tells(platform: Clock) -> None:
    sensor = date_freshness_sensor()
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"platform": platform})
        result = sensor(context)
    assert isinstance(result, dg.SensorResult) and len(result.asset_events) == len(TABLES)
    assert sensor.minimum_interval_seconds == date_freshness.INTERVAL_SECONDS
    assert datetime.fromisoformat(json.loads(result.cursor or "")["silver/readings"][1]) == SOON.astimezone(UTC)
