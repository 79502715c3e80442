"""Today's data overtakes history in Dagster's own queue, and limits leave it room beside a backfill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import RunOpConcurrency
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from iot_platform.automation.priorities import (
    DRAIN,
    HISTORY,
    LANE,
    MARTS,
    OLD,
    PRIORITY,
    REGISTRY,
    SINGLE_WRITER,
    TODAY,
    limit_pools,
    priority_tag,
    tags_of_dates,
)
from iot_platform.automation.run import persistent_instance
from iot_platform.definitions import build_defs
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at
from iot_platform_tests.automation.test_level_sensor import Clock, heal, look

DERIVED = ("silver_readings", "gold_sensor_windows")
BACKFILL = {"dagster/backfill": "b1"}


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Dagster as it is run: with the project's dagster.yaml."""
    with persistent_instance(settings) as instance:
        limit_pools(instance)
        yield instance


def queue(instance: dg.DagsterInstance, name: str, tags: Mapping[str, str], *pools: str) -> None:
    """Put a run of these pools into the queue, as a sensor or the UI does."""
    wanted = RunOpConcurrency(
        root_key_counts=dict.fromkeys(pools, 1), has_unconstrained_root_nodes=False, all_pools=set(pools)
    )
    origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="none"), location_name="none")
    job = RemoteRepositoryOrigin(origin, "__repository__").get_job_origin("__ASSET_JOB")
    instance.run_storage.add_run(
        dg.DagsterRun(
            "__ASSET_JOB", str(uuid4()), status=dg.DagsterRunStatus.QUEUED, tags={**tags, "name": name},
            run_op_concurrency=wanted, remote_job_origin=job,
        )
    )  # fmt: skip


def started(instance: dg.DagsterInstance) -> list[str]:
    """The runs that the queue lets go now, first first; they are under way afterwards."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
    chosen = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), fixed_iteration_time=None)
    for run in chosen:
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name, message="")
        instance.report_dagster_event(event, run.run_id)
    return [run.tags["name"] for run in chosen]


def test_recent_dates_have_a_higher_priority_than_old_ones_and_what_a_person_asks_for_lies_between() -> None:
    today = date(2026, 3, 20)
    assert tags_of_dates(today + DAY, today) == tags_of_dates(today - DAY, today) == {PRIORITY: str(TODAY)}
    assert tags_of_dates(today - 2 * DAY, today) == {PRIORITY: str(OLD), LANE: HISTORY}
    assert DRAIN > REGISTRY > TODAY > MARTS > 0 > OLD


def test_the_queue_takes_drains_then_today_then_marts_then_backfills_then_history(instance: dg.DagsterInstance) -> None:
    queue(instance, "history", tags_of_dates(D, D + 9 * DAY), "a")
    queue(instance, "backfill", BACKFILL, "b")
    queue(instance, "marts", priority_tag(MARTS), "marts")
    queue(instance, "today", tags_of_dates(D, D), "c")
    queue(instance, "drain", priority_tag(DRAIN), "bronze")
    assert started(instance) == ["drain", "today", "marts", "backfill", "history"]


def test_today_runs_while_history_and_a_backfill_of_the_same_tables_do(instance: dg.DagsterInstance) -> None:
    for n in range(6):
        queue(instance, f"history {n}", tags_of_dates(D - 31 * n * DAY, D + 9 * DAY), *DERIVED)
        queue(instance, f"backfill {n}", BACKFILL, *DERIVED)
    assert started(instance) == ["backfill 0", "history 0"]
    assert started(instance) == []
    queue(instance, "today", tags_of_dates(D, D), *DERIVED)
    queue(instance, "drain", priority_tag(DRAIN), "bronze")
    queue(instance, "second drain", priority_tag(DRAIN), "bronze")
    assert started(instance) == ["drain", "today"]


def test_what_has_one_writer_has_room_for_one_run(instance: dg.DagsterInstance) -> None:
    for pool in SINGLE_WRITER:
        for n in range(2):
            queue(instance, f"{pool} {n}", {}, pool)
    assert started(instance) == [f"{pool} 0" for pool in SINGLE_WRITER]


def test_a_limit_that_somebody_set_by_hand_stays(instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots("marts", 0)  # nobody builds marts for now
    assert limit_pools(instance) == []
    limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits == {**dict.fromkeys(SINGLE_WRITER, 1), "marts": 0}


def test_the_pools_of_single_writers_are_those_of_the_graph(settings: Settings, dbt_manifest: Path) -> None:
    graph = build_defs(settings, manifest=dbt_manifest).resolve_asset_graph()
    pools = {pool for key in graph.executable_asset_keys for pool in graph.get(key).pools or ()}
    assert set(SINGLE_WRITER) <= pools


def test_the_level_sensor_says_what_is_of_today_and_what_is_history(settings: Settings, small: SmallLake) -> None:
    small.day(D, readings=2)
    small.day(D + 9 * DAY, readings=2)
    platform = Clock(settings)
    heal(platform)
    small.day(D, readings=1)
    small.day(D + 9 * DAY, readings=1)
    heal_registries(platform)
    platform.moment = at(D + 9 * DAY)
    with dg.DagsterInstance.ephemeral() as instance:
        found = {request.tags["dagster/asset_partition_range_start"]: request.tags for request in
                 look(platform, instance).run_requests or ()}  # fmt: skip
    platform.engine.close()
    assert found["2026-03-10"][LANE] == HISTORY and int(found["2026-03-10"][PRIORITY]) < 0
    assert LANE not in found["2026-03-19"] and int(found["2026-03-19"][PRIORITY]) > 0


def heal_registries(platform: Clock) -> None:
    from iot_platform.engines.registry import sync_registry

    sync_registry(platform.lake, platform.engine, now=platform.now())
