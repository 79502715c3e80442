"""A backfill of many dates as the UI launches it, by the daemon's own code: one run, and a result for each date."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.test.utils import execute_dagster_graphql

from iot_platform.automation import runs
from iot_platform.automation.run import persistent_instance
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.registry import sync_registry
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import daily_transforms
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake
from iot_platform_tests.integration.deployment import BACKFILL, CHECKS, LAUNCH, key_of
from iot_platform_tests.transforms.rows import event

pytestmark = pytest.mark.integration
DAILY = [transform.table for transform in daily_transforms()]
THIRTY = [D + n * DAY for n in range(30)]
DAYS = THIRTY[:6]
BROKEN = DAYS[4]
EVENTS = "gold/device_type_windows"
RETRY = """
mutation ($parent: String!) { reexecutePartitionBackfill(reexecutionParams: {parentRunId: $parent, strategy: FROM_FAILURE}) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    return SmallLake(Lake(settings))


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


def ask(workspace: WorkspaceProcessContext, query: str, **variables: Any) -> Any:
    """What GraphQL answers."""
    answer: Any = execute_dagster_graphql(workspace.create_request_context(), query, variables)
    assert not answer.errors, answer.errors
    return answer.data


def launch(workspace: WorkspaceProcessContext, tables: Iterable[str], days: Iterable[date] = DAYS) -> str:
    chosen = {
        "partitionNames": [day.isoformat() for day in days],
        "assetSelection": [key_of(table) for table in tables],
    }
    return launched(ask(workspace, LAUNCH, backfill=chosen)["launchPartitionBackfill"])


def launched(answer: dict[str, Any]) -> str:
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return answer["backfillId"]


def carry_out(workspace: WorkspaceProcessContext, identity: str) -> tuple[PartitionBackfill, dg.DagsterRun]:
    """What the daemons do until the backfill is over; the backfill and its one run."""
    instance = workspace.instance
    iterate(workspace)
    (run,) = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/backfill": identity}))
    instance.launch_run(run.run_id, workspace.create_request_context())  # as the daemon of the run queue does

    def has_ended() -> bool:
        found = instance.get_run_by_id(run.run_id)
        return bool(found and found.is_finished)

    assert wait_until(has_ended, 300)
    iterate(workspace)
    backfill, ended = instance.get_backfill(identity), instance.get_run_by_id(run.run_id)
    assert backfill and ended
    return backfill, ended


def iterate(workspace: WorkspaceProcessContext) -> None:
    """One round of the daemon: it submits a backfill's runs, and ends it when they ended."""
    errors = [error for error in execute_backfill_iteration(workspace, logging.getLogger("backfill")) if error]
    assert not errors, errors


def dates_of(run: dg.DagsterRun) -> tuple[str | None, str | None]:
    return run.tags.get(runs.RANGE_START), run.tags.get(runs.RANGE_END)


def results(workspace: WorkspaceProcessContext, identity: str) -> dict[str, tuple[int, int, int]]:
    """Per table what the UI's page of the backfill shows: dates targeted, made, failed."""
    found = ask(workspace, BACKFILL, id=identity)["partitionBackfillOrError"]["assetBackfillData"]["assetBackfillStatuses"]
    return {
        "/".join(one["assetKey"]["path"]): (
            one["numPartitionsTargeted"], one["numPartitionsMaterialized"], one["numPartitionsFailed"]
        )
        for one in found
    }  # fmt: skip


def content(small: SmallLake, table: str) -> pl.DataFrame:
    """A table's rows, sorted, without what says only when it was made."""
    rows = pl.read_delta(small.lake.path(table)).drop("processed_at")
    return rows.sort([name for name, kind in rows.schema.items() if not isinstance(kind, pl.List)])


@pytest.mark.parametrize("days", [DAYS, pytest.param(THIRTY, marks=pytest.mark.long)], ids=["six", "thirty"])
def test_many_dates_are_one_run_with_a_result_for_each_and_a_second_changes_nothing(
    workspace: WorkspaceProcessContext, settings: Settings, small: SmallLake, days: list[date]
) -> None:
    for day in days:
        small.day(day, readings=24)
    small.day(D, readings=2)  # sent twice
    engine = DuckDBEngine(settings)
    sync_registry(small.lake, engine, now=NOW)
    engine.close()

    first = launch(workspace, DAILY, days)
    backfill, run = carry_out(workspace, first)
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS and run.status == dg.DagsterRunStatus.SUCCESS
    assert dates_of(run) == (days[0].isoformat(), days[-1].isoformat())
    assert results(workspace, first) == dict.fromkeys(DAILY, (len(days), len(days), 0))
    checks = ask(workspace, CHECKS, key=key_of("silver/readings"), check="conservation")["assetCheckExecutions"]
    found = {one["partition"]: one["status"] for one in checks}
    assert found == dict.fromkeys((day.isoformat() for day in days), "SUCCEEDED")
    before = {table: (small.lake.snapshot(table).version, content(small, table)) for table in DAILY}
    assert set(before["silver/readings"][1]["event_date"]) == set(days)

    backfill, run = carry_out(workspace, launch(workspace, DAILY, days[:3]))
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS
    assert dates_of(run) == (days[0].isoformat(), days[2].isoformat()) and len(workspace.instance.get_runs()) == 2
    for table, (version, rows) in before.items():
        assert small.lake.snapshot(table).version > version, f"{table} was not made again"
        assert content(small, table).equals(rows), table


def test_a_date_that_fails_undoes_no_other_and_is_retried_alone(
    workspace: WorkspaceProcessContext, small: SmallLake
) -> None:
    for day in DAYS:
        # A negative duration never gets past the parser: Gold's contract refuses what was written by another.
        small.put("silver/readings", day, [events_at(day, -5.0 if day == BROKEN else 5.0)])
    failing = launch(workspace, [EVENTS])
    backfill, run = carry_out(workspace, failing)
    assert backfill.status == BulkActionStatus.COMPLETED_FAILED and run.status == dg.DagsterRunStatus.FAILURE
    assert results(workspace, failing) == {EVENTS: (len(DAYS), len(DAYS) - 1, 1)}
    made = {row["event_date"]: row["processed_at"] for row in small.rows(EVENTS)}
    assert set(made) == set(DAYS) - {BROKEN}
    found = ask(workspace, CHECKS, key=key_of(EVENTS), check="contract")["assetCheckExecutions"]
    assert {one["partition"] for one in found if one["status"] == "FAILED"} == {BROKEN.isoformat()}
    assert sum(one["status"] == "SUCCEEDED" for one in found) == len(DAYS) - 1

    small.put("silver/readings", BROKEN, [events_at(BROKEN, 5.0)])
    retried = launched(ask(workspace, RETRY, parent=failing)["reexecutePartitionBackfill"])
    backfill, run = carry_out(workspace, retried)
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS and run.status == dg.DagsterRunStatus.SUCCESS
    assert BROKEN.isoformat() in {run.tags.get(runs.PARTITION), *dates_of(run)}
    assert results(workspace, retried) == {EVENTS: (1, 1, 0)}
    after = {row["event_date"]: row["processed_at"] for row in small.rows(EVENTS)}
    assert set(after) == set(DAYS)
    assert {day: moment for day, moment in after.items() if day != BROKEN} == made


def events_at(day: date, duration: float) -> dict[str, Any]:
    return event(duration, event_time=datetime.combine(day, time(12), UTC))
