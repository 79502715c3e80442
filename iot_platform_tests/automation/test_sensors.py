"""The sensors around Kafka and the marts, and the schedule: what they ask for, and that they never hang or repeat."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from iot_platform.assets.derived import LEVEL_TAG
from iot_platform.assets.marts import marts_assets
from iot_platform.assets.metadata import asset_key
from iot_platform.assets.platform import Platform
from iot_platform.automation import marts_sensor, runs, streaming_sensor
from iot_platform.automation.observation import observation_sensor, observations
from iot_platform.automation.partitions import capped, contiguous, daily
from iot_platform.ingest.lag import TopicLag
from iot_platform.ingest.lease import lease
from iot_platform.ingest.progress import ProgressLog, iso
from iot_platform.ingest.supervision import Supervision, write_supervision
from iot_platform.local.process import ProcessIdentity
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake
from iot_platform_tests.automation.test_level_sensor import evaluated, record
from iot_platform_tests.checks.rows import device
from iot_platform_tests.conftest import MakeSettings

BEHIND = {"iot.sensor-readings": 5, "iot.readings": 0}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def reason(result: object) -> str:
    assert isinstance(result, dg.SkipReason)
    return result.skip_message or ""


def test_a_topic_ahead_of_bronze_asks_for_one_drain_of_today_and_the_registries(instance: dg.DagsterInstance) -> None:
    request = streaming_sensor.decide(BEHIND, instance, NOW)
    assert isinstance(request, dg.RunRequest) and request.partition_key == "2026-03-20"
    assert {"/".join(key.path) for key in request.asset_selection or ()} == {
        "bronze/readings", "bronze/quarantine", "registry/devices", "registry/metrics",
    }  # fmt: skip
    record(instance, request, dg.DagsterRunStatus.STARTED)
    assert reason(streaming_sensor.decide(BEHIND, instance, NOW)) == "a drain is under way"


def test_a_run_of_everything_drains_too(instance: dg.DagsterInstance) -> None:
    run_everything(instance)
    assert reason(streaming_sensor.decide(BEHIND, instance, NOW)) == "a drain is under way"


def run_everything(instance: dg.DagsterInstance) -> None:
    """Enter a run without a selection, as `dagster job launch` and the UI's "Materialize all" may."""
    run = instance.create_run(
        job_name="__ASSET_JOB", run_id=None, run_config=None, status=dg.DagsterRunStatus.STARTED, tags={},
        root_run_id=None, parent_run_id=None, step_keys_to_execute=None, execution_plan_snapshot=None,
        job_snapshot=None, parent_job_snapshot=None, op_selection=None, asset_selection=None,
        asset_check_selection=None, resolved_op_selection=None, remote_job_origin=None, job_code_origin=None,
        asset_graph=dg.Definitions().resolve_asset_graph(),
    )  # fmt: skip
    assert run.asset_selection is None


def test_nothing_ahead_asks_for_nothing(instance: dg.DagsterInstance) -> None:
    assert "everything" in reason(streaming_sensor.decide({"iot.readings": 0}, instance, NOW))


def test_failed_drains_are_tried_again_for_ever_with_growing_pauses_and_a_success_forgets_them(
    instance: dg.DagsterInstance,
) -> None:
    now = NOW
    request = streaming_sensor.decide(BEHIND, instance, now)
    for pause in (30, 60, 120):
        assert isinstance(request, dg.RunRequest)
        record(instance, request, dg.DagsterRunStatus.FAILURE, ended=now)
        assert f"tried again in {pause} s" in reason(streaming_sensor.decide(BEHIND, instance, now))
        now += timedelta(seconds=pause)
        request = streaming_sensor.decide(BEHIND, instance, now)
    assert isinstance(request, dg.RunRequest)
    record(instance, request, dg.DagsterRunStatus.SUCCESS, ended=now)
    assert isinstance(streaming_sensor.decide(BEHIND, instance, now), dg.RunRequest)


def test_the_pause_never_grows_beyond_ten_minutes() -> None:
    assert runs.Attempts(200, NOW).wait(NOW) == timedelta(minutes=10)
    assert runs.Attempts(0).wait(NOW) == timedelta(0)


def test_a_broker_that_is_down_is_a_reason_and_not_a_hang(make_settings: MakeSettings) -> None:
    platform = Platform(make_settings(kafka_bootstrap="127.0.0.1:1"))
    for sensor in (streaming_sensor.streaming_sensor(), observation_sensor()):
        began = datetime.now(UTC)
        with dg.DagsterInstance.ephemeral() as instance:
            result = sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}))
        skipped = result.skip_reason if isinstance(result, dg.SensorResult) else result
        assert "127.0.0.1:1" in reason(skipped)
        assert datetime.now(UTC) - began < timedelta(seconds=10)


def told(
    sensor: dg.SensorDefinition, platform: Platform, instance: dg.DagsterInstance, cursor: str | None
) -> dg.SensorResult:
    """Evaluate the sensor, and enter what it reports into Dagster's record, as the daemon does."""
    result = sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    return result


def test_while_a_continuous_ingest_runs_its_commits_are_reported_and_no_drain_is_asked_for(
    settings: Settings, small: SmallLake
) -> None:
    platform = Platform(settings)
    small.day(D)
    sensor = streaming_sensor.streaming_sensor()
    with lease(settings, "continuous"), dg.DagsterInstance.ephemeral() as instance:
        first = told(sensor, platform, instance, None)
        assert not first.run_requests
        assert [event.partition for event in first.asset_events] == ["2026-03-10"]  # landed before the first look
        small.day(D + DAY, readings=3)
        second = told(sensor, platform, instance, first.cursor)
        third = told(sensor, platform, instance, second.cursor)
        again = told(sensor, platform, instance, None)
    (event,) = second.asset_events
    assert event.partition == "2026-03-11" and event.metadata["dagster/partition_row_count"].value == 3
    assert not third.asset_events and not again.asset_events, "what is in Dagster's record is not told again"


def test_what_a_drain_did_not_live_to_report_is_reported_at_the_next_look(
    make_settings: MakeSettings, small: SmallLake, instance: dg.DagsterInstance
) -> None:
    platform = Platform(make_settings(kafka_bootstrap="127.0.0.1:1"))
    sensor = streaming_sensor.streaming_sensor()
    request = streaming_sensor.decide(BEHIND, instance, NOW)
    assert isinstance(request, dg.RunRequest)
    record(instance, request, dg.DagsterRunStatus.STARTED)
    small.day(D)
    early = told(sensor, platform, instance, "7")
    assert not early.asset_events and early.cursor == "7"  # the drain goes on, and will say it itself
    end_newest(instance, NOW)
    late = told(sensor, platform, instance, early.cursor)
    assert [event.partition for event in late.asset_events] == ["2026-03-10"] and late.cursor == str(small.seq)


def test_what_a_drain_reported_moves_the_cursor_and_is_not_told_twice(
    make_settings: MakeSettings, small: SmallLake, instance: dg.DagsterInstance
) -> None:
    platform = Platform(make_settings(kafka_bootstrap="127.0.0.1:1"))
    small.day(D)
    key = asset_key("bronze/readings")
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2026-03-10", metadata={"level": small.seq}))
    look = told(streaming_sensor.streaming_sensor(), platform, instance, None)
    assert not look.asset_events and look.cursor == str(small.seq)


FIGURES = {"end_offset": 9, "committed_offset": 4, "lag": 5}


def seen(
    events: list[dg.AssetObservation | dg.AssetMaterialization], kind: type
) -> dict[str, dict[str, object]]:
    """What was told of each topic by events of this kind."""
    return {
        event.asset_key.path[-1]: {name: value.value for name, value in event.metadata.items()}
        for event in events
        if isinstance(event, kind)
    }


def test_topics_are_observed_when_their_figures_change() -> None:
    first, cursor = observations(dict.fromkeys("tu", FIGURES), None, NOW)
    assert seen(first, dg.AssetObservation) == dict.fromkeys("tu", FIGURES | {"lag_seconds": 0})
    again, cursor = observations(dict.fromkeys("tu", FIGURES), cursor, NOW)
    assert again == []
    changed, _ = observations({"t": FIGURES, "u": FIGURES | {"committed_offset": 5, "lag": 4}}, cursor, NOW)
    assert set(seen(changed, dg.AssetObservation)) == {"u"} and not seen(changed, dg.AssetMaterialization)


def test_messages_that_came_are_a_materialization_of_their_topic_and_always_of_the_same_version() -> None:
    first, cursor = observations({"t": FIGURES, "empty": dict.fromkeys(FIGURES, 0)}, None, NOW)
    assert set(seen(first, dg.AssetMaterialization)) == {"t"}
    (event,) = [event for event in first if isinstance(event, dg.AssetMaterialization)]
    assert event.tags == {"dagster/data_version": "stream"}
    taken, cursor = observations({"t": FIGURES | {"committed_offset": 9, "lag": 0}}, cursor, NOW)
    assert not seen(taken, dg.AssetMaterialization)
    more, _ = observations({"t": {"end_offset": 10, "committed_offset": 9, "lag": 1}}, cursor, NOW)
    assert seen(more, dg.AssetMaterialization)["t"]["end_offset"] == 10


def test_lag_is_told_in_seconds_too_and_that_of_the_oldest_message_that_waits() -> None:
    cursor: str | None = None

    def lag_seconds(second: int, end: int, committed: int) -> object:
        nonlocal cursor
        figures = {"end_offset": end, "committed_offset": committed, "lag": end - committed}
        events, cursor = observations({"t": figures}, cursor, NOW + timedelta(seconds=second))
        return seen(events, dg.AssetObservation)["t"]["lag_seconds"]

    assert lag_seconds(0, end=10, committed=0) == 0
    assert lag_seconds(30, end=20, committed=0) == 30
    assert lag_seconds(60, end=30, committed=10) == 30  # what came after the first look has waited since the second
    assert lag_seconds(90, end=30, committed=20) == 30
    assert lag_seconds(120, end=30, committed=30) == 0
    waited = [lag_seconds(200 + n, end=40 + n, committed=30) for n in range(1000)]
    assert waited[-1] == 999 and len(cursor or "") < 10_000


def test_marts_are_asked_for_when_gold_is_ahead_and_tried_for_ever(instance: dg.DagsterInstance) -> None:
    gold, published = levels(7), levels(6)
    assert "everything" in reason(marts_sensor.decide(published, gold, instance, NOW))
    now = NOW
    keys: set[str | None] = set()
    for _attempt in range(5):
        request = marts_sensor.decide(gold, published, instance, now)
        assert isinstance(request, dg.RunRequest)
        keys.add(request.run_key)
        record(instance, request, dg.DagsterRunStatus.STARTED)
        assert "under way" in reason(marts_sensor.decide(gold, published, instance, now))
        end_newest(instance, now)
        assert "again in" in reason(marts_sensor.decide(gold, published, instance, now))
        now += timedelta(minutes=10)
    assert len(keys) == 5


@pytest.mark.parametrize(("status", "is_wrong_data"), [("fail", True), ("error", False)])
def test_marts_that_a_test_found_wrong_wait_for_gold_to_move(
    instance: dg.DagsterInstance, status: str, is_wrong_data: bool
) -> None:
    gold, published = levels(7), levels(6)
    request = marts_sensor.decide(gold, published, instance, NOW)
    assert isinstance(request, dg.RunRequest)
    record(instance, request, dg.DagsterRunStatus.STARTED)
    (run,) = instance.get_runs()
    evaluated(instance, run, dg.AssetCheckEvaluation(
        dg.AssetKey(["marts", "devices"]), "unique_devices", False, {"status": dg.MetadataValue.text(status)},
    ))  # fmt: skip
    end_newest(instance, NOW)
    later = NOW + timedelta(hours=1)
    again = marts_sensor.decide(gold, published, instance, later)
    assert isinstance(again, dg.SkipReason if is_wrong_data else dg.RunRequest)
    if is_wrong_data:
        assert "unique_devices" in reason(again)
    assert isinstance(marts_sensor.decide(levels(8), published, instance, later), dg.RunRequest)


def test_the_marts_of_the_dates_that_moved_are_asked_for_newest_first_and_no_range_is_long(
    instance: dg.DagsterInstance,
) -> None:
    days = [D - timedelta(days=n) for n in (0, 3, 61, 62, 400)]
    unmoved: marts_sensor.Levels = {("gold_sensor_health", D + timedelta(days=1)): 6}
    gold: marts_sensor.Levels = {**unmoved, **{("gold_sensor_health", day): 7 for day in days}}
    published: marts_sensor.Levels = dict.fromkeys(gold, 6)
    request = marts_sensor.decide(gold, published, instance, NOW)
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[runs.RANGE_START], request.tags[runs.RANGE_END]) == (days[2].isoformat(), D.isoformat())
    assert LEVEL_TAG in request.tags  # what did not move in between is not made again
    made: marts_sensor.Levels = {**gold, **{("gold_sensor_health", day): 6 for day in days[3:]}}
    rest = marts_sensor.decide(gold, made, instance, NOW)
    assert isinstance(rest, dg.RunRequest) and rest.tags[runs.RANGE_START] == rest.tags[runs.RANGE_END]


def test_when_no_date_moved_only_what_has_no_dates_is_made(
    instance: dg.DagsterInstance, settings: Settings, dbt_manifest: Path
) -> None:
    marts = marts_assets(settings, dbt_manifest, daily(settings))
    request = marts_sensor.decide({("registry_devices", None): 7}, {("registry_devices", None): 6}, instance, NOW)
    assert isinstance(request, dg.RunRequest) and runs.RANGE_START not in request.tags
    assert {"/".join(key.path) for key in marts_sensor.chosen(marts, request)} == {
        "marts/devices", "marts/duration_p95_weekly", "marts/check_trend",
        "staging/stg_registry__devices", "staging/stg_ops__check_results",
    }  # fmt: skip


def levels(level: int) -> marts_sensor.Levels:
    return {("gold_sensor_health", D): level}


def end_newest(instance: dg.DagsterInstance, moment: datetime) -> None:
    (run,) = instance.get_runs(limit=1)
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, run.job_name, message="")
    instance.report_dagster_event(event, run.run_id, timestamp=moment.timestamp())


def test_without_a_published_file_all_of_gold_is_ahead(settings: Settings, small: SmallLake) -> None:
    assert marts_sensor.published_levels(settings.marts) == {}
    small.put("gold/duration_p95", D, [_p95()], level=5)
    assert marts_sensor.lake_levels(small.lake) == {("gold_duration_p95", D): 5, ("registry_devices", None): 0}


def test_a_date_that_lost_all_its_rows_is_ahead_of_the_marts_and_so_is_a_changed_device(
    instance: dg.DagsterInstance, small: SmallLake
) -> None:
    small.put("gold/duration_p95", D, [_p95()], level=5)
    small.put("registry/devices", None, [device("d1")], level=3)
    before = marts_sensor.lake_levels(small.lake)
    small.put("gold/duration_p95", D, [], level=7)
    emptied = marts_sensor.lake_levels(small.lake)
    assert emptied == before | {("gold_duration_p95", D): 7}
    assert isinstance(marts_sensor.decide(emptied, before, instance, NOW), dg.RunRequest)
    small.put("registry/devices", None, [device("d1", "inferred")], level=9)
    declared = marts_sensor.lake_levels(small.lake)
    assert isinstance(marts_sensor.decide(declared, emptied, instance, NOW), dg.RunRequest)
    gone = {key: level for key, level in before.items() if key[1] is None}
    assert isinstance(marts_sensor.decide(gone, before, instance, NOW), dg.RunRequest)


def test_what_the_published_file_was_made_from_stands_in_it(settings: Settings) -> None:
    settings.marts.parent.mkdir(parents=True)
    with duckdb.connect(str(settings.marts)) as connection:
        connection.execute("create table _input_levels (model varchar, input varchar, event_date date, level hugeint)")
        for model, view, level in (("a", "gold_sensor_health", 7), ("b", "gold_sensor_health", 5), ("c", "a", 9)):
            connection.execute("insert into _input_levels values (?, ?, '2026-03-10', ?)", [model, view, level])
    oldest = {("gold_sensor_health", D): 5}  # as old as the oldest model made from it; a model is no input of the lake
    assert marts_sensor.published_levels(settings.marts) == oldest
    with duckdb.connect(str(settings.marts)) as connection:
        connection.execute("create table _whole_levels (model varchar, input varchar, level hugeint)")
        connection.execute("insert into _whole_levels values ('d', 'registry_devices', 3)")
    assert marts_sensor.published_levels(settings.marts) == oldest | {("registry_devices", None): 3}


def test_dagster_evaluates_the_marts_sensor(settings: Settings, small: SmallLake, dbt_manifest: Path) -> None:
    sensor = marts_sensor.marts_sensor(marts_assets(settings, dbt_manifest, daily(settings)))
    small.put("gold/duration_p95", D, [_p95()], level=5)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"platform": Platform(settings)})
        request = sensor(context)
    assert isinstance(request, dg.RunRequest)
    assert {key.path[0] for key in request.asset_selection or ()} == {"staging", "marts"}


def _p95() -> dict[str, object]:
    row = {"device_type": "motion", "events": 500, "excluded": 1, "mean": 2.0, "std": 1.0, "p95": 4.0}
    return row | {"processed_at": NOW, "pipeline_version": "t", "event_date": D}


def test_partitions_run_from_the_first_date_to_tomorrow_in_utc(make_settings: MakeSettings) -> None:
    partitions = daily(make_settings(first_date=D))
    now = datetime(2026, 3, 12, 23, 59, tzinfo=UTC)
    assert list(partitions.get_partition_keys(now)) == ["2026-03-10", "2026-03-11", "2026-03-12", "2026-03-13"]


def test_ranges_are_contiguous_and_capped() -> None:
    ranges = contiguous([D + 3 * DAY, D, D + DAY, D])
    assert ranges == [(D, D + DAY), (D + 3 * DAY, D + 3 * DAY)]
    assert capped([(D, D + 4 * DAY)], 2) == [(D, D + DAY), (D + 2 * DAY, D + 3 * DAY), (D + 4 * DAY, D + 4 * DAY)]


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands where the broker would answer: seven records wait."""
    broker = sys.modules["iot_platform.ingest.lag"]  # the package has a function of that name
    monkeypatch.setattr(broker, "lag", lambda settings, seconds: {"t": TopicLag(17, 10, 7)})


@pytest.mark.usefixtures("ahead")
def test_a_continuous_ingest_that_is_stuck_is_told_and_one_that_starts_again_is_left_to_its_supervisor(
    settings: Settings, small: SmallLake, instance: dg.DagsterInstance
) -> None:
    small.day(D)
    sensor = streaming_sensor.streaming_sensor()
    platform = Platform(settings)
    now = datetime.now(UTC)
    with lease(settings, "continuous") as held:
        log = ProgressLog(settings, "continuous", held, lambda: now - timedelta(hours=1))
        log.begin(1, {"t": {0: 10}}, {"t": 10})
        stuck = told(sensor, platform, instance, None)
        assert "7 records wait and it committed nothing for 60 min" in reason(stuck.skip_reason)
        ProgressLog(settings, "continuous", held).begin(1, {"t": {0: 10}}, {"t": 17})
        assert reason(told(sensor, platform, instance, stuck.cursor).skip_reason) == "a continuous ingest runs"
    own = ProcessIdentity.of(os.getpid())
    said = Supervision(socket.gethostname(), own.pid, own.started_at, iso(now), iso(now), restarts=1, failures_in_a_row=1)
    write_supervision(settings, said, print)
    restarting = told(sensor, platform, instance, None)
    assert "the worker is started" in reason(restarting.skip_reason) and not restarting.run_requests
    write_supervision(settings, replace(said, failures_in_a_row=9), print)
    assert told(sensor, platform, instance, None).run_requests, "one that does not get going is no reason to stand still"
    for gone in (replace(said, started_at=1.0), replace(said, host="gone", beat_at=iso(now - timedelta(minutes=5)))):
        write_supervision(settings, gone, print)
        assert told(sensor, platform, instance, None).run_requests, "nor is one whose supervisor was killed, or hangs"
