"""A daemon that was off for a day asks for little and heals. No tick is long, whatever hangs or lies in wait."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorTick
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs

from iot_platform.automation.level_sensor import evaluate
from iot_platform.automation.partitions import daily
from iot_platform.automation.priorities import HISTORY, LANE, MOST_OF_HISTORY
from iot_platform.automation.run import persistent_instance
from iot_platform.automation.runs import RANGE_END, RANGE_START
from iot_platform.automation.streaming_sensor import MOST_EVENTS, commits_to_report
from iot_platform.definitions import build_defs
from iot_platform.engines.registry import sync_registry
from iot_platform.lake import Lake
from iot_platform.lake.levels import Levels
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at
from iot_platform_tests.automation.location import workspace
from iot_platform_tests.automation.test_level_sensor import Clock, asked, heal, record
from iot_platform_tests.conftest import MakeSettings

TICK_SECONDS = 10.0
LOG = logging.getLogger("test")


@contextmanager
def hanging_broker() -> Iterator[str]:
    """The address of a server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(settings) as instance:
        yield instance


@pytest.fixture
def platform(settings: Settings) -> Iterator[Clock]:
    platform = Clock(settings)
    yield platform
    platform.engine.close()


def test_a_day_of_commits_is_one_run_of_its_dates_and_then_there_is_nothing(
    platform: Clock, small: SmallLake
) -> None:
    small.day(D, readings=2)
    heal(platform)
    for n in range(48):  # the daemon is off: a batch each half hour, some readings of them late
        small.ingest([{"event_time": at(D + DAY) + timedelta(minutes=n)}, {"event_time": at(D, 13, n % 60)}])
    platform.moment = at(D + 2 * DAY, 1)
    with dg.DagsterInstance.ephemeral() as instance:
        result = evaluate(platform, instance, daily(platform.settings))
        requests = asked(result)
        registries = [tables for tables, _, _ in requests if "registry/devices" in tables]
        assert registries == [{"registry/devices", "registry/metrics"}]
        ranges = [(first, last) for tables, first, last in requests if first]
        assert ranges and len(ranges) <= 3 and min(ranges)[0] == "2026-03-10"
        for request in result.run_requests or ():
            record(instance, request, dg.DagsterRunStatus.STARTED)
        assert len(asked(evaluate(platform, instance, daily(platform.settings)))) <= 1  # the rest waits for these
    heal(platform)
    assert not any(Levels(platform.lake).stale().values())
    with dg.DagsterInstance.ephemeral() as instance:
        assert asked(evaluate(platform, instance, daily(platform.settings))) == []


def test_a_day_of_commits_by_a_continuous_ingest_is_reported_by_date_and_not_by_commit(small: SmallLake) -> None:
    for n in range(60):
        small.ingest([{"event_time": at(D) + timedelta(minutes=n)}], [{}])
    with dg.DagsterInstance.ephemeral() as instance:
        events, cursor = commits_to_report(small.lake, instance, None)
        assert len(events) == 2 and cursor == str(small.seq)  # a date of readings, a date of quarantine


def test_many_dates_are_reported_over_several_ticks_newest_first(small: SmallLake) -> None:
    days = [D + n * DAY for n in range(2 * MOST_EVENTS + 1)]
    small.ingest([{"event_time": at(day)} for day in days])
    told: list[str] = []
    cursor: str | None = None
    with dg.DagsterInstance.ephemeral() as instance:
        for _tick in range(3):
            events, cursor = commits_to_report(small.lake, instance, cursor)
            assert len(events) <= MOST_EVENTS
            told += [event.partition or "" for event in events]
            for event in events:
                instance.report_runless_asset_event(event)
        assert commits_to_report(small.lake, instance, cursor) == ([], str(small.seq))
    assert told[0] == str(days[-1]) and sorted(told) == [str(day) for day in days]


def test_years_behind_are_asked_for_bit_by_bit_newest_first_and_today_is_never_held_back(
    platform: Clock, small: SmallLake
) -> None:
    small.ingest([{"event_time": at(D + n * 40 * DAY)} for n in range(20)])
    sync_registry(small.lake, platform.engine, now=platform.now())
    platform.moment = at(D + 19 * 40 * DAY, 13)
    partitions = daily(platform.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        found = evaluate(platform, instance, partitions).run_requests or []
        old = [request for request in found if request.tags.get(LANE) == HISTORY]
        assert len(old) == MOST_OF_HISTORY and len(found) <= MOST_OF_HISTORY + 2
        assert any(request.tags[RANGE_END] >= str(platform.moment.date() - DAY) for request in found)
        assert min(request.tags[RANGE_START] for request in old) > str(D + 10 * 40 * DAY)
        for request in found:
            record(instance, request, dg.DagsterRunStatus.STARTED)
        again = evaluate(platform, instance, partitions)
        assert not again.run_requests
        assert again.skip_reason and "older dates are asked for when" in (again.skip_reason.skip_message or "")


def schedules_look(context: WorkspaceProcessContext, moment: datetime) -> list[dg.DagsterRun]:
    """What Dagster's scheduler adds to the queue at this moment."""
    before = {run.run_id for run in context.instance.get_runs()}
    with freeze_time(moment):
        list(launch_scheduled_runs(context, LOG, moment, iteration_times={}))
    return [run for run in context.instance.get_runs() if run.run_id not in before]


def test_schedules_make_up_for_the_last_missed_tick_and_for_no_other(
    instance: dg.DagsterInstance, platform: Clock, small: SmallLake, dbt_manifest: Path
) -> None:
    small.day(D, readings=2)
    small.day(D + DAY, readings=2)
    heal(platform)
    definitions = build_defs(platform.settings, {"platform": platform}, dbt_manifest)
    with workspace(instance, definitions) as context:
        assert schedules_look(context, at(D, 12, 5)) == []  # the schedules begin
        queued = schedules_look(context, at(D + 3 * DAY, 12, 35))  # and are not looked at for three days
        assert {tick.status.value for tick in schedule_ticks(context)} <= {"SUCCESS", "SKIPPED"}
        assert max(len(list(ticks)) for ticks in by_schedule(context).values()) == 1
        selections = sorted("/".join(key.path) for run in queued for key in run.asset_selection or ())
        assert selections.count("ops/maintenance") == 1
        reports = [(run.tags[RANGE_START], run.tags[RANGE_END]) for run in queued
                   if run.asset_selection == {dg.AssetKey(["reports", "daily_report"])}]  # fmt: skip
        assert reports == [("2026-03-10", "2026-03-12")]  # yesterday, and the missed ones that have readings
        assert len(queued) <= 5
        assert schedules_look(context, at(D + 3 * DAY, 12, 50)) == []


def by_schedule(context: WorkspaceProcessContext) -> dict[str, list[InstigatorTick]]:
    location = context.create_request_context().code_locations[0]
    (repository,) = location.get_repositories().values()
    return {
        schedule.name: list(context.instance.get_ticks(schedule.get_remote_origin_id(), schedule.selector_id))
        for schedule in repository.get_schedules()
    }


def schedule_ticks(context: WorkspaceProcessContext) -> list[InstigatorTick]:
    return [tick for ticks in by_schedule(context).values() for tick in ticks]


def sensor_ticks(context: WorkspaceProcessContext) -> dict[str, InstigatorTick]:
    """Let the sensor daemon look once at every sensor; what became of each."""
    list(execute_sensor_iteration(context, LOG, None, None))
    location = context.create_request_context().code_locations[0]
    (repository,) = location.get_repositories().values()
    return {
        sensor.name: context.instance.get_ticks(sensor.get_remote_origin_id(), sensor.selector_id)[0]
        for sensor in repository.get_sensors()
        if sensor.default_status == dg.DefaultSensorStatus.RUNNING
    }


def test_no_sensor_blocks_a_tick_when_the_broker_hangs_and_a_thousand_dates_wait(
    instance: dg.DagsterInstance, make_settings: MakeSettings, dbt_manifest: Path
) -> None:
    with hanging_broker() as address:
        settings = make_settings(kafka_bootstrap=address)
        small = SmallLake(Lake(settings))
        small.ingest([{"event_time": at(D + n * DAY)} for n in range(1000)])
        platform = Clock(settings)
        platform.moment = at(D + 1000 * DAY)
        definitions = build_defs(settings, {"platform": platform}, dbt_manifest)
        with workspace(instance, definitions) as context:
            ticks = sensor_ticks(context)
        platform.engine.close()
    assert set(ticks) == {sensor.name for sensor in definitions.get_repository_def().sensor_defs}
    took = {name: (tick.end_timestamp or 1e12) - tick.timestamp for name, tick in ticks.items()}
    assert {name for name, tick in ticks.items() if tick.status.value not in {"SUCCESS", "SKIPPED"}} == set()
    assert max(took.values()) < TICK_SECONDS, took
    print({name: round(seconds, 2) for name, seconds in took.items()})
    assert len(instance.get_runs()) <= MOST_OF_HISTORY + 5
