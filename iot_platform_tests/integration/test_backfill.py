"""A backfill as the UI launches it: one run for the whole range, and every table as it was."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.test.utils import execute_dagster_graphql

from iot_platform.automation import runs
from iot_platform.automation.run import persistent_instance
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import sync_registry
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels, daily_transforms
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake

pytestmark = pytest.mark.integration
DAILY = [transform.table for transform in daily_transforms()]
DAYS = [D, D + DAY, D + 2 * DAY]
LAUNCH = """
mutation Launch($backfill: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfill) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    """Three days in Bronze, with a duplicate, and everything made from them."""
    small = SmallLake(Lake(settings))
    for day in DAYS:
        small.day(day, readings=48)
    small.day(D, readings=2)
    engine = DuckDBEngine(settings)
    try:
        sync_registry(small.lake, engine, now=NOW)
        for table, days in Levels(small.lake).stale().items():
            for day in days:
                materialize_date(small.lake, engine, TRANSFORMS[table], day, now=NOW)
    finally:
        engine.close()
    return small


@pytest.fixture
def workspace(
    settings: Settings, small: SmallLake, dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkspaceProcessContext]:
    """What Dagster's web server and daemon work with: its record, and the code in a process of its own."""
    settings.marts.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(dbt_manifest, settings.marts.with_name(dbt_manifest.name))
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(settings.home)  # not the clone's root, whose .env the code would be given
    target = ModuleTarget("iot_platform.definitions", None, str(settings.home), "iot_platform")
    with persistent_instance(settings) as instance, WorkspaceProcessContext(instance, target) as context:
        yield context


def content(small: SmallLake, table: str) -> pl.DataFrame:
    """A table's rows, sorted, without what says only when it was made."""
    rows = pl.read_delta(small.lake.path(table)).drop("processed_at")
    return rows.sort([name for name, kind in rows.schema.items() if not isinstance(kind, pl.List)])


def launch(workspace: WorkspaceProcessContext) -> str:
    chosen = {
        "partitionNames": [day.isoformat() for day in DAYS],
        "assetSelection": [{"path": table.split("/")} for table in DAILY],
    }
    answer: Any = execute_dagster_graphql(workspace.create_request_context(), LAUNCH, {"backfill": chosen})
    assert answer.data["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer.data
    return answer.data["launchPartitionBackfill"]["backfillId"]


def iterate(workspace: WorkspaceProcessContext) -> None:
    """One round of the daemon: it submits a backfill's runs, and ends it when they ended."""
    errors = [error for error in execute_backfill_iteration(workspace, logging.getLogger("backfill")) if error]
    assert not errors, errors


def test_a_backfill_is_one_run_and_changes_nothing(workspace: WorkspaceProcessContext, small: SmallLake) -> None:
    instance = workspace.instance
    before = {table: content(small, table) for table in DAILY}
    versions = {table: small.lake.snapshot(table).version for table in DAILY}
    backfill = launch(workspace)
    iterate(workspace)
    (run,) = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/backfill": backfill}))
    assert (run.tags[runs.RANGE_START], run.tags[runs.RANGE_END]) == (DAYS[0].isoformat(), DAYS[-1].isoformat())
    instance.launch_run(run.run_id, workspace.create_request_context())  # as the daemon of the run queue does

    def has_ended() -> bool:
        found = instance.get_run_by_id(run.run_id)
        return bool(found and found.is_finished)

    assert wait_until(has_ended, 120)
    ended = instance.get_run_by_id(run.run_id)
    assert ended and ended.status == dg.DagsterRunStatus.SUCCESS
    iterate(workspace)
    found = instance.get_backfill(backfill)
    assert found and found.status == BulkActionStatus.COMPLETED_SUCCESS
    assert len(instance.get_runs()) == 1
    for table in DAILY:
        assert small.lake.snapshot(table).version > versions[table], f"{table} was not made again"
        assert content(small, table).equals(before[table]), table
