"""Every asset has a freshness policy, Dagster's daemon judges by it, and it turns and recovers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.freshness import FreshnessDaemon

from iot_platform.assets.metadata import asset_key
from iot_platform.automation.freshness import policy, with_freshness
from iot_platform.automation.run import persistent_instance
from iot_platform.definitions import build_defs
from iot_platform.errors import InputError
from iot_platform.settings import Settings
from iot_platform_tests.automation.location import workspace

MONDAY = datetime(2026, 3, 16, 7, tzinfo=UTC)
TOPIC = dg.AssetKey(["kafka", "iot.sensor-readings"])
SILVER = asset_key("silver/readings")
MART = dg.AssetKey(["marts", "devices"])


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with persistent_instance(settings) as instance:
        yield instance


@pytest.fixture
def context(
    instance: dg.DagsterInstance, settings: Settings, dbt_manifest: Path
) -> Iterator[WorkspaceProcessContext]:
    with workspace(instance, build_defs(settings, manifest=dbt_manifest)) as context:
        yield context


def judged(context: WorkspaceProcessContext, moment: datetime, *keys: dg.AssetKey) -> list[FreshnessState]:
    """What the freshness daemon records of these assets at this moment."""
    with freeze_time(moment):
        list(FreshnessDaemon().run_iteration(context))
    records = context.instance.get_freshness_state_records(keys)
    return [records[key].freshness_state for key in keys]


def materialize(instance: dg.DagsterInstance, moment: datetime, *keys: dg.AssetKey, partition: str | None = None) -> None:
    with freeze_time(moment):
        for key in keys:
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))


def test_every_asset_that_is_ours_has_a_policy(settings: Settings, dbt_manifest: Path) -> None:
    graph = build_defs(settings, manifest=dbt_manifest).resolve_asset_graph()
    ours = graph.executable_asset_keys | {key for key in graph.get_all_asset_keys() if key.path[0] == "kafka"}
    assert {key for key in ours if graph.get(key).freshness_policy != policy(key)} == set()


def test_an_asset_may_bring_a_policy_of_its_own_and_a_layer_without_one_is_named() -> None:
    own = dg.FreshnessPolicy.time_window(timedelta(days=9))
    (kept,) = with_freshness([dg.AssetSpec("anything", freshness_policy=own)])
    assert kept.freshness_policy == own
    with pytest.raises(InputError, match="'attic'"):
        policy(dg.AssetKey(["attic", "box"]))


def test_the_daemon_is_on(instance: dg.DagsterInstance) -> None:
    assert FreshnessDaemon.daemon_type() in instance.get_required_daemon_types()


def test_freshness_turns_and_recovers(context: WorkspaceProcessContext, instance: dg.DagsterInstance) -> None:
    keys = (TOPIC, SILVER)
    assert judged(context, MONDAY, *keys) == [FreshnessState.UNKNOWN] * 2
    materialize(instance, MONDAY, *keys, partition="2026-03-16")
    assert judged(context, MONDAY, *keys) == [FreshnessState.PASS] * 2
    assert judged(context, MONDAY + timedelta(minutes=15), *keys) == [FreshnessState.WARN, FreshnessState.PASS]
    assert judged(context, MONDAY + timedelta(minutes=70), *keys) == [FreshnessState.FAIL, FreshnessState.WARN]
    assert judged(context, MONDAY + timedelta(minutes=80), *keys) == [FreshnessState.FAIL] * 2
    materialize(instance, MONDAY + timedelta(minutes=81), SILVER, partition="2026-03-16")
    assert judged(context, MONDAY + timedelta(minutes=82), *keys) == [FreshnessState.FAIL, FreshnessState.PASS]


def test_marts_have_to_be_there_by_the_time_of_the_report(
    context: WorkspaceProcessContext, instance: dg.DagsterInstance
) -> None:
    materialize(instance, MONDAY - timedelta(hours=3), MART)  # 04:00
    assert judged(context, MONDAY, MART) == [FreshnessState.PASS]
    assert judged(context, MONDAY + timedelta(hours=22), MART) == [FreshnessState.PASS]  # 05:00, the day after
    assert judged(context, MONDAY + timedelta(hours=24), MART) == [FreshnessState.FAIL]
    materialize(instance, MONDAY + timedelta(hours=25), MART)
    assert judged(context, MONDAY + timedelta(hours=25), MART) == [FreshnessState.PASS]
