"""Closing a day: who was silent until its end is seen to be, whether its fleet fell silent or never spoke."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from iot_platform.automation import runs
from iot_platform.automation.level_sensor import evaluate
from iot_platform.automation.partitions import daily
from iot_platform.automation.schedules import close, close_day, close_yesterday
from iot_platform.lake.levels import Levels, merged
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at
from iot_platform_tests.automation.test_level_sensor import Clock, asked, heal, record

COLUMNS = "device_id,contract,device_type,site,zone,state,firmware,cadence_seconds,installed_at,retired_at"
FLEET = (
    "d1,sensor_reading,,hall,,,,3600,2026-03-10T00:00:00Z,",
    "mute,device_event,,hall,,,,3600,2026-03-10T00:00:00Z,",
    "gone,device_event,,hall,,,,3600,2026-03-10T00:00:00Z,2026-03-10T12:00:00Z",
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def platform(settings: Settings, small: SmallLake) -> Iterator[Clock]:
    """A lake whose one live device fell silent at 10:00, whose other contract never sent anything."""
    settings.declarations.mkdir(parents=True)
    (settings.declarations / "devices.csv").write_text("\n".join((COLUMNS, *FLEET)) + "\n")
    small.ingest([{"event_time": at(D, hour)} for hour in range(11)])
    platform = Clock(settings)
    heal(platform)
    yield platform
    platform.engine.close()


def health(small: SmallLake, day: date) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in sorted(small.rows("gold/sensor_health"), key=lambda row: row["window_start"]):
        if row["event_date"] == day:
            found.setdefault(row["device_id"], []).append(row["health_pct"])
    return found


def closing(platform: Clock, instance: dg.DagsterInstance, day: date) -> list[tuple[set[str], str, str]]:
    """Close the date as the schedule does on the next one at 00:10; what it asks for."""
    found = close_yesterday(platform, instance, daily(platform.settings), at(day + DAY, 0, 10))
    return [] if isinstance(found, dg.SkipReason) else asked(dg.SensorResult(run_requests=list(found)))


def test_a_fleet_that_fell_silent_and_one_that_never_spoke_fail_once_their_day_is_closed(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    assert health(small, D) == {"d1": [100.0] * 10}
    assert closing(platform, instance, D) == [({"gold/sensor_health"}, "2026-03-10", "2026-03-10")]
    heal(platform)
    assert health(small, D) == {"d1": [100.0] * 11 + [0.0] * 13, "mute": [0.0] * 24, "gone": [0.0] * 12}


def test_each_night_asks_for_its_own_date_and_a_missed_night_is_made_up_for(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    close(platform.lake, D)
    heal(platform)
    assert closing(platform, instance, D + DAY) == [({"gold/sensor_health"}, "2026-03-11", "2026-03-11")]
    heal(platform)
    assert health(small, D + DAY) == {"d1": [0.0] * 24, "mute": [0.0] * 24}
    assert closing(platform, instance, D + 3 * DAY) == [({"gold/sensor_health"}, "2026-03-12", "2026-03-13")]
    heal(platform)
    assert closing(platform, instance, D + 3 * DAY) == []
    assert not any(Levels(platform.lake).stale().values())


def test_what_the_schedule_asked_for_and_lost_the_level_sensor_asks_for(
    platform: Clock, instance: dg.DagsterInstance
) -> None:
    partitions = daily(platform.settings)
    found = close_yesterday(platform, instance, partitions, at(D + DAY, 0, 10))
    assert not isinstance(found, dg.SkipReason)
    (request,) = found
    record(instance, request, dg.DagsterRunStatus.STARTED)
    assert not evaluate(platform, instance, partitions).run_requests
    (run,) = instance.get_runs()
    instance.delete_run(run.run_id)
    (again,) = list(evaluate(platform, instance, partitions).run_requests or ())
    assert again.tags[runs.REQUEST_TAG] == request.tags[runs.REQUEST_TAG]


def test_readings_that_come_after_their_day_was_closed_are_counted(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    close(platform.lake, D)
    heal(platform)
    small.ingest([{"event_time": at(D, hour)} for hour in range(11, 24)])
    heal(platform)
    assert health(small, D) == {"d1": [100.0] * 24, "mute": [0.0] * 24, "gone": [0.0] * 12}
    small.ingest([{"event_time": at(D + 9 * DAY)}])  # time passes the date by itself too: nothing is made again for that
    assert D not in Levels(platform.lake).stale()["gold/sensor_windows"]


def test_a_device_declared_on_closed_days_is_judged_on_them_and_another_contract_too(
    platform: Clock, small: SmallLake, settings: Settings
) -> None:
    close(platform.lake, D + DAY)
    heal(platform)
    file = settings.declarations / "devices.csv"
    file.write_text(file.read_text().replace("mute,device_event", "mute,environment_reading"))
    heal(platform)
    rows = [row for row in small.rows("gold/sensor_health") if row["device_id"] == "mute"]
    assert {(row["event_date"], row["contract"]) for row in rows} == {
        (D, "environment_reading"), (D + DAY, "environment_reading"),
    }  # fmt: skip


def test_closing_never_goes_back(platform: Clock) -> None:
    assert close(platform.lake, D + DAY)
    assert not close(platform.lake, D) and not close(platform.lake, D + DAY)
    assert Levels(platform.lake).as_of(D + DAY)["device_event"] == at(D + 2 * DAY, 0)


def test_a_long_silence_is_asked_for_in_ranges_of_a_month(platform: Clock, instance: dg.DagsterInstance) -> None:
    found = closing(platform, instance, D + timedelta(days=69))
    assert [(first, last) for _, first, last in found] == [
        ("2026-03-10", "2026-04-09"), ("2026-04-10", "2026-05-10"), ("2026-05-11", "2026-05-18"),
    ]  # fmt: skip


def test_dagster_evaluates_the_schedule(platform: Clock, settings: Settings) -> None:
    schedule = close_day(daily(settings))
    moment = datetime(2026, 3, 11, 0, 10, tzinfo=UTC)
    with dg.instance_for_test() as instance:
        for expected in (list, dg.SkipReason):
            context = dg.build_schedule_context(
                instance=instance, scheduled_execution_time=moment, resources={"platform": platform}
            )
            assert isinstance(schedule(context), expected)


def test_spans_that_meet_are_one() -> None:
    assert merged([(D + 2 * DAY, D + 4 * DAY), (D, D + 2 * DAY), (D + 6 * DAY, D + 6 * DAY)]) == [
        (D, D + 4 * DAY), (D + 6 * DAY, D + 6 * DAY),
    ]  # fmt: skip
