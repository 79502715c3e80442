"""The level sensor asks for what moved, once, however often it looks and whatever became of earlier runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from iot_platform.assets.metadata import asset_key
from iot_platform.assets.platform import Platform
from iot_platform.automation import runs
from iot_platform.automation.date_freshness import stale_dates
from iot_platform.automation.level_sensor import evaluate, level_sensor
from iot_platform.automation.partitions import daily
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import sync_registry
from iot_platform.lake.levels import Levels, daily_transforms
from iot_platform.lake.rollback import release, roll_back
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake

DAILY = [transform.table for transform in daily_transforms()]


class Clock(Platform):
    """A platform whose time the test sets."""

    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def platform(settings: Settings) -> Iterator[Clock]:
    platform = Clock(settings)
    yield platform
    platform.engine.close()


def look(platform: Platform, instance: dg.DagsterInstance) -> dg.SensorResult:
    return evaluate(platform, instance, daily(platform.settings))


def asked(result: dg.SensorResult) -> list[tuple[set[str], str, str]]:
    return [
        (
            {"/".join(key.path) for key in request.asset_selection or ()},
            request.tags.get(runs.RANGE_START, ""),
            request.tags.get(runs.RANGE_END, ""),
        )
        for request in result.run_requests or ()
    ]


def only(result: dg.SensorResult) -> dg.RunRequest:
    requests = list(result.run_requests or [])
    assert len(requests) == 1
    return requests[0]


def why(result: dg.SensorResult) -> str:
    return (result.skip_reason and result.skip_reason.skip_message) or ""


def heal(platform: Platform) -> None:
    """Make everything that is stale, as the runs that were asked for do."""
    sync_registry(platform.lake, platform.engine, now=NOW)
    for table, days in Levels(platform.lake).stale().items():
        for day in days:
            materialize_date(platform.lake, platform.engine, TRANSFORMS[table], day, now=NOW)


def record(
    instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus, ended: datetime | None = None,
    pid: int | None = None,
) -> None:  # fmt: skip
    """Enter a run of the request into Dagster's record, as the daemon and the run itself would."""
    run = instance.create_run(
        job_name="__ASSET_JOB", run_id=None, run_config=None, status=dg.DagsterRunStatus.NOT_STARTED,
        tags=dict(request.tags), root_run_id=None, parent_run_id=None, step_keys_to_execute=None,
        execution_plan_snapshot=None, job_snapshot=None, parent_job_snapshot=None, op_selection=None,
        asset_selection=frozenset(request.asset_selection or ()), asset_check_selection=None, resolved_op_selection=None,
        remote_job_origin=None, job_code_origin=None, asset_graph=dg.Definitions().resolve_asset_graph(),
    )  # fmt: skip
    kind = {
        dg.DagsterRunStatus.STARTED: dg.DagsterEventType.RUN_START,
        dg.DagsterRunStatus.SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
        dg.DagsterRunStatus.FAILURE: dg.DagsterEventType.RUN_FAILURE,
    }[status]
    # A run that goes on belongs to a living process, which began before it.
    moment = ended or (datetime.now(UTC) if status == dg.DagsterRunStatus.STARTED else NOW)
    event = dg.DagsterEvent(kind.value, run.job_name, message="", pid=pid or os.getpid())
    instance.report_dagster_event(event, run.run_id, timestamp=moment.timestamp())


def test_an_empty_lake_synchronizes_the_declared_metrics_and_then_needs_nothing(
    platform: Clock, instance: dg.DagsterInstance
) -> None:
    assert asked(look(platform, instance)) == [({"registry/devices", "registry/metrics"}, "", "")]
    heal(platform)
    result = look(platform, instance)
    assert not result.run_requests and why(result) == "every date is made from its newest inputs"


def test_declarations_come_before_the_dates_that_are_made_from_them(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day()
    first = only(look(platform, instance))
    assert {key.path[0] for key in first.asset_selection or ()} == {"registry"}
    record(instance, first, dg.DagsterRunStatus.STARTED)
    waiting = look(platform, instance)
    assert not waiting.run_requests and "new declarations" in why(waiting)


def test_a_drain_that_never_ends_keeps_no_date_waiting(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day(readings=2)
    heal(platform)
    small.day(readings=1)
    drain = dg.RunRequest(asset_selection=[asset_key("bronze/readings"), asset_key("registry/devices")])
    record(instance, drain, dg.DagsterRunStatus.STARTED)
    (tables, start, _end) = asked(look(platform, instance))[0]
    assert "silver/readings" in tables and start == "2026-03-10"


def test_dates_that_moved_are_one_run_of_every_table(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    for n in range(3):
        small.day(D + n * DAY)
    sync_registry(platform.lake, platform.engine, now=NOW)
    assert asked(look(platform, instance)) == [(set(DAILY), "2026-03-10", "2026-03-12")]
    heal(platform)
    assert asked(look(platform, instance)) == []


def test_a_late_reading_asks_for_its_date_and_those_that_read_it_and_no_other(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    for n in range(4):
        small.day(D + n * DAY, readings=2)
    heal(platform)
    small.day(D, readings=1)
    sync_registry(platform.lake, platform.engine, now=NOW)
    first = asked(look(platform, instance))
    assert first[0] == (set(DAILY), "2026-03-10", "2026-03-10")
    touched: set[tuple[str, date]] = set()
    for _look in range(5):
        found = look(platform, instance)
        for tables, start, end in asked(found):
            for table in [table for table in DAILY if table in tables]:
                for n in range((date.fromisoformat(end) - date.fromisoformat(start)).days + 1):
                    day = date.fromisoformat(start) + n * DAY
                    touched.add((table, day))
                    materialize_date(platform.lake, platform.engine, TRANSFORMS[table], day, now=NOW)
    assert not look(platform, instance).run_requests
    assert {day for table, day in touched if table == "silver/readings"} == {D, D + DAY}
    assert {day for table, day in touched if table == "gold/sensor_windows"} == {D, D + DAY}
    assert {day for table, day in touched if table == "gold/daily_summary"} == {D + n * DAY for n in range(4)}


def test_what_is_under_way_is_not_asked_for_again(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day()
    sync_registry(platform.lake, platform.engine, now=NOW)
    request = only(look(platform, instance))
    record(instance, request, dg.DagsterRunStatus.STARTED)
    result = look(platform, instance)
    assert not result.run_requests and "wait for a run to end" in why(result)


def test_a_failed_run_does_not_burn_its_key_and_is_tried_for_ever_with_growing_pauses(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day()
    sync_registry(platform.lake, platform.engine, now=NOW)
    keys: set[str | None] = set()
    for attempt, pause in enumerate((30, 60, 120, 240, 480, 600, 600, 600), 1):
        request = only(look(platform, instance))
        assert request.tags["iot/attempt"] == str(attempt)
        keys.add(request.run_key)
        record(instance, request, dg.DagsterRunStatus.FAILURE, ended=platform.moment)
        result = look(platform, instance)
        assert not result.run_requests and f"tried again in {pause} s" in why(result)
        platform.moment += timedelta(seconds=pause)
    assert len(keys) == 8
    heal(platform)  # the disk has room again
    assert "every date" in why(look(platform, instance))


def test_a_date_whose_rows_break_their_contract_waits_for_its_inputs_and_no_other_waits_with_it(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day(D)
    small.day(D + DAY)
    sync_registry(platform.lake, platform.engine, now=NOW)
    record(instance, only(look(platform, instance)), dg.DagsterRunStatus.STARTED)
    (run,) = instance.get_runs()
    evaluated(instance, run, dg.AssetCheckEvaluation(
        asset_key("silver/readings"), "contract", False, partition=D.isoformat(), blocking=True
    ))  # fmt: skip
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, run.job_name, message="")
    instance.report_dagster_event(event, run.run_id, timestamp=platform.moment.timestamp())
    platform.moment += timedelta(hours=1)
    found = asked(look(platform, instance))
    assert not any("silver/readings" in tables and start == "2026-03-10" for tables, start, _ in found)
    assert any("silver/readings" in tables and start == "2026-03-11" for tables, start, _ in found)
    small.day(D, readings=1)  # its inputs moved: that is another request
    sync_registry(platform.lake, platform.engine, now=NOW)
    assert any("silver/readings" in tables and start == "2026-03-10" for tables, start, _ in asked(look(platform, instance)))


def evaluated(instance: dg.DagsterInstance, run: dg.DagsterRun, evaluation: dg.AssetCheckEvaluation) -> None:
    """Enter the result of a check into Dagster's record, as one of the run."""
    event = dg.DagsterEvent(
        dg.DagsterEventType.ASSET_CHECK_EVALUATION.value, run.job_name, event_specific_data=evaluation
    )
    instance.report_dagster_event(event, run.run_id)


def test_a_failed_blocking_check_keeps_gold_from_its_date(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day(D)
    small.day(D + DAY)
    sync_registry(platform.lake, platform.engine, now=NOW)
    for table in ("silver/readings", "silver/rejected_readings"):
        for day in (D, D + DAY):
            materialize_date(platform.lake, platform.engine, TRANSFORMS[table], day, now=NOW)
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=asset_key("silver/readings"), check_name="conservation", passed=False, blocking=True,
            partition=D.isoformat(),
        )
    )  # fmt: skip
    result = look(platform, instance)
    assert [(start, end) for _, start, end in asked(result)] == [("2026-03-11", "2026-03-11")]
    assert "gold/daily_summary" in asked(result)[0][0]


def test_a_held_date_is_asked_for_only_once_it_is_released_and_its_failed_check_keeps_nothing_from_what_reads_it(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day(D)
    heal(platform)
    small.day(D, device_id="d2")
    heal(platform)
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=asset_key("silver/readings"), check_name="conservation", passed=False, blocking=True,
            partition=D.isoformat(),
        )
    )  # fmt: skip
    roll_back(platform.lake, "silver/readings", D)
    tables, start, _ = asked(look(platform, instance))[0]
    assert start == D.isoformat() and "gold/sensor_windows" in tables and "silver/readings" not in tables
    heal(platform)
    small.day(D, readings=1, device_id="d3")
    heal(platform)
    result = look(platform, instance)
    assert not result.run_requests and "held by a rollback" in why(result) and "--release" in why(result)
    assert D not in stale_dates(platform.lake, platform.moment)["silver/readings"]
    release(platform.lake, "silver/readings", D)
    assert any("silver/readings" in tables for tables, _, _ in asked(look(platform, instance)))
    heal(platform)
    assert "every date" in why(look(platform, instance))


def test_a_run_whose_process_is_gone_is_marked_as_failed_and_a_living_one_is_left_alone(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day(readings=2)
    sync_registry(platform.lake, platform.engine, now=NOW)
    request = only(look(platform, instance))
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        now = datetime.now(UTC) + timedelta(seconds=2)
        record(instance, request, dg.DagsterRunStatus.STARTED, ended=now, pid=living.pid)
        assert runs.bury_dead(instance) == []
        assert not look(platform, instance).run_requests
    finally:
        living.kill()
        living.communicate()
    platform.moment = datetime.now(UTC) + timedelta(minutes=2)
    assert only(look(platform, instance)).tags["iot/attempt"] == "2"  # one look finds it out and goes on
    (run,) = instance.get_runs(limit=1)
    assert run.status == dg.DagsterRunStatus.FAILURE


def test_a_dead_run_of_a_backfill_gives_its_dates_back(platform: Clock, tmp_path: Path) -> None:
    """It has no tag of a sensor: that its process was on this machine it said itself, by what every step takes."""
    program = f"""
import sys
import dagster as dg
from iot_platform.automation.runs import HostNaming
with dg.DagsterInstance.from_config({str(tmp_path)!r}) as instance:
    @dg.asset(key=["silver", "readings"])
    def endless(platform: dg.ResourceParam[object]) -> None:
        assert platform == "platform"
        print("runs", flush=True)
        sys.stdin.read()
    tags = {{"dagster/backfill": "b", {runs.RANGE_START!r}: "2026-03-10", {runs.RANGE_END!r}: "2026-03-11"}}
    @dg.asset
    def other() -> None: ...
    definitions = dg.Definitions([endless, other], resources={{"platform": HostNaming("platform")}})
    job = definitions.resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=instance, tags=tags, asset_selection=[endless.key])
"""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    partitions = daily(platform.settings)
    try:
        assert child.stdout and child.stdout.readline() == b"runs\n"
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            assert runs.bury_dead(instance) == []
            assert runs.being_made(runs.unfinished(instance), partitions, DAILY)
            child.kill()
            child.communicate()
            (run,) = instance.get_runs()
            assert run.tags["dagster/backfill"] == "b" and run.status == dg.DagsterRunStatus.STARTED
            assert runs.bury_dead(instance) == [run.run_id]
            assert not runs.being_made(runs.unfinished(instance), partitions, DAILY)
    finally:
        child.kill()
        child.communicate()


def test_late_data_of_today_waits_for_a_long_rebuild_only_until_that_is_done_with_today(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    platform.moment = datetime(2026, 3, 10, 18, tzinfo=UTC)
    small.day(readings=2)
    heal(platform)
    small.day(readings=1)
    sync_registry(platform.lake, platform.engine, now=NOW)
    short = {runs.RANGE_START: "2026-03-09", runs.RANGE_END: "2026-03-10"}
    long = {runs.RANGE_START: "2026-02-01", runs.RANGE_END: "2026-03-10", "dagster/backfill": "b"}
    made = dg.AssetMaterialization(asset_key("silver/readings"), partition="2026-03-10")
    keys = [asset_key(table) for table in DAILY]
    instance.report_runless_asset_event(made)  # before it began
    record(instance, dg.RunRequest(asset_selection=keys, tags=long), dg.DagsterRunStatus.STARTED)
    assert not look(platform, instance).run_requests
    instance.report_runless_asset_event(made)
    assert [(tables, start) for tables, start, _ in asked(look(platform, instance))] == [({"silver/readings"}, "2026-03-10")]
    record(instance, dg.RunRequest(asset_selection=keys, tags=short), dg.DagsterRunStatus.STARTED)
    instance.report_runless_asset_event(made)
    assert not look(platform, instance).run_requests, "a short run is waited for"


def test_while_the_registries_fail_the_dates_go_on_and_they_are_tried_again(
    platform: Clock, instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.day()
    for _attempt in range(5):
        request = only(look(platform, instance))
        assert {key.path[0] for key in request.asset_selection or ()} == {"registry"}
        record(instance, request, dg.DagsterRunStatus.FAILURE, ended=platform.moment)
        assert asked(look(platform, instance))[0][1:] == ("2026-03-10", "2026-03-10")
        platform.moment += timedelta(minutes=10)


def test_dagster_evaluates_the_sensor(platform: Clock, small: SmallLake) -> None:
    small.day()
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"platform": platform})
        result = level_sensor(daily(platform.settings))(context)
    assert isinstance(result, dg.SensorResult) and result.run_requests
    assert platform.moment.tzinfo is UTC
