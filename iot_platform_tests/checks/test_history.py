"""Every evaluation of Dagster's log becomes one row of ``ops/check_results``: none twice, none lost, whoever collects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from iot_platform.assets.check_results import check_results_asset
from iot_platform.assets.marts_events import DateCheck, evaluation
from iot_platform.assets.metadata import asset_key
from iot_platform.assets.platform import Platform
from iot_platform.automation.check_history import check_history_sensor
from iot_platform.automation.run import persistent_instance
from iot_platform.checks import history
from iot_platform.checks.history import TABLE, Collected, collect
from iot_platform.errors import LakeError
from iot_platform.lake import Lake
from iot_platform.lake.maintain import maintain
from iot_platform.lake.query import select
from iot_platform.marts.facts import NodeResult
from iot_platform.settings import Settings

SILVER = asset_key("silver/readings")
DAY = "2026-03-10"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A record in memory, of the same make as the others."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def kept(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The record that a home has: SQLite, a file a run and an index."""
    with persistent_instance(settings) as instance:
        yield instance


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


def evaluate(instance: dg.DagsterInstance, names: list[str], **chosen: Any) -> None:
    """Report evaluations outside of any run."""
    for name in names:
        given = {"passed": True, "partition": DAY} | chosen
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(SILVER, name, **given))


def names(lake: Lake) -> list[str]:
    return [name for (name,) in select(lake, "select check_name from ops_check_results order by event_id")[1]]


def test_an_evaluation_is_a_row_with_its_figure_and_bounds(lake: Lake, instance: dg.DagsterInstance) -> None:
    metadata = {"figure": 0.3, "unit": "share", "warn_at": 0.1, "rows": 7}
    evaluate(
        instance, ["late_rate"], passed=False, severity=dg.AssetCheckSeverity.WARN, description="late", metadata=metadata
    )
    assert collect(lake, instance) == Collected(1)
    columns, (row,) = select(lake, "select * from ops_check_results")
    found = dict(zip(columns, row, strict=True))
    assert abs((found.pop("evaluated_at") - datetime.now(UTC)).total_seconds()) < 60
    assert found.pop("evaluation_id").endswith(f"/{found.pop('event_id')}")
    assert found == {
        "run_id": None, "asset": "silver/readings", "check_name": "late_rate", "event_date": date(2026, 3, 10),
        "passed": False, "severity": "WARN", "is_blocking": False, "figure": 0.3, "unit": "share", "warn_at": 0.1,
        "fail_at": None, "description": "late",
    }  # fmt: skip


def test_a_dbt_test_brings_its_failing_rows_and_other_partitions_have_no_date(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    node = NodeResult("fail", "Got 3 results", 0.1, 3)
    shown = evaluation(dg.AssetCheckSpec("unique_devices", asset=SILVER), node, DateCheck(None, False, 3))
    evaluate(instance, ["unique_devices"], partition=None, passed=False, metadata=shown.metadata)
    evaluate(instance, ["of a site"], partition="hall")
    collect(lake, instance)
    sql = "select event_date, figure, unit, fail_at from ops_check_results order by event_id"
    assert select(lake, sql)[1] == [(None, 3.0, "rows", 1.0), (None, None, None, None)]


def test_looking_again_adds_only_what_is_new(lake: Lake, instance: dg.DagsterInstance) -> None:
    evaluate(instance, ["a", "b"])
    assert collect(lake, instance) == Collected(2)
    assert collect(lake, instance) == Collected(0)
    version = lake.writable(TABLE).version
    assert collect(lake, instance) == Collected(0) and lake.writable(TABLE).version == version  # and commits nothing
    evaluate(instance, ["c"])
    assert collect(lake, instance) == Collected(1)
    assert names(lake) == ["a", "b", "c"]


def test_a_look_reads_only_files_that_may_hold_the_last_stretch_and_the_maintenance_merges_them(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "READ_AGAIN", 2)
    read: list[int] = []
    select_files = history.select_files

    def counted(contract: Any, files: Any) -> str:
        read.append(len(files))
        return select_files(contract, files)

    monkeypatch.setattr(history, "select_files", counted)
    for n in range(60):
        evaluate(instance, [f"c{n:02}"])
        assert collect(lake, instance) == Collected(1)
    assert len(lake.snapshot(TABLE).active) == 60 and max(read) <= 4
    merged = {done.table: done for done in maintain(lake, datetime.now(UTC))}[TABLE]
    assert (merged.files_merged, merged.files_written, len(lake.snapshot(TABLE).active)) == (60, 1, 1)
    evaluate(instance, ["after"])
    assert collect(lake, instance) == Collected(1)
    assert names(lake) == [*(f"c{n:02}" for n in range(60)), "after"]


def test_more_than_fit_into_one_commit_come_in_several(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "AT_ONCE", 4)
    monkeypatch.setattr(history, "READ_AGAIN", 2)
    many = [f"c{n:02}" for n in range(11)]
    evaluate(instance, many)
    assert collect(lake, instance, seconds=0) == Collected(4, is_complete=False)  # its time is over after one
    assert collect(lake, instance) == Collected(7)
    assert names(lake) == many


def test_of_two_collectors_at_once_each_evaluation_is_added_by_one(settings: Settings, kept: dg.DagsterInstance) -> None:
    lakes = [Lake(settings) for _ in range(3)]
    added = 0
    for n in range(5):
        evaluate(kept, [f"{n} {m}" for m in range(4)])
        with ThreadPoolExecutor(3) as pool:
            added += sum(found.rows for found in pool.map(lambda lake: collect(lake, kept), lakes))
    assert added == 20 and sorted(set(names(lakes[0]))) == sorted(names(lakes[0])) and len(names(lakes[0])) == 20


def test_a_commit_in_between_is_looked_at_before_the_next_try(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(instance, ["a"])
    first, faster = Lake(settings), Lake(settings)
    append = history.append

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(history, "append", append)
        assert collect(faster, instance) == Collected(1)  # between the look of the first and its commit
        append(*arguments)

    monkeypatch.setattr(history, "append", overtaken)
    assert collect(first, instance) == Collected(0)
    assert names(first) == ["a"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_collector_that_is_killed_leaves_all_or_nothing(
    settings: Settings, kept: dg.DagsterInstance, lake: Lake, when: str
) -> None:
    evaluate(kept, ["a", "b"])
    killed = """
import os, signal, sys
from iot_platform.automation.run import persistent_instance
from iot_platform.checks import history
from iot_platform.lake import Lake
from iot_platform.settings import load_settings
settings, append = load_settings(), history.append
def die(*arguments):
    if sys.argv[1] == "after":
        append(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
history.append = die
with persistent_instance(settings) as instance:
    history.collect(Lake(settings), instance)
"""
    ended = subprocess.run(
        [sys.executable, "-c", killed, when], env=settings.environment(), check=False, timeout=120, capture_output=True
    )
    assert ended.returncode == -9
    assert collect(lake, kept) == Collected(0 if when == "after" else 2)
    assert names(lake) == ["a", "b"]


def test_an_event_that_shows_late_under_an_older_number_is_not_lost(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(instance, ["a", "slow", "b"])
    shown = history.evaluations
    monkeypatch.setattr(
        history, "evaluations", lambda *asked: [one for one in shown(*asked) if history.as_row(one)["check_name"] != "slow"]
    )
    assert collect(lake, instance) == Collected(2)
    monkeypatch.setattr(history, "evaluations", shown)
    evaluate(instance, ["c"])
    assert collect(lake, instance) == Collected(2)
    assert names(lake) == ["a", "slow", "b", "c"]


def test_numbers_that_are_given_again_after_runs_were_deleted_are_new_evaluations(
    lake: Lake, kept: dg.DagsterInstance
) -> None:
    for name in ("old", "older"):
        run_with(kept, name)
    assert collect(lake, kept) == Collected(2)
    for record in kept.get_run_records():
        kept.delete_run(record.dagster_run.run_id)
    run_with(kept, "new")
    assert collect(lake, kept) == Collected(1)
    assert set(names(lake)) == {"old", "older", "new"}


def run_with(instance: dg.DagsterInstance, name: str) -> None:
    """A run of one check."""

    @dg.asset_check(asset=SILVER, name=name)
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    job = dg.Definitions(asset_checks=[check]).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, run_id=str(uuid4())).success


def test_another_instance_s_log_is_counted_from_its_beginning(lake: Lake, instance: dg.DagsterInstance) -> None:
    evaluate(instance, ["a", "b", "c"])
    collect(lake, instance)
    with dg.DagsterInstance.ephemeral() as other:
        run_with(other, "of_another")
        assert collect(lake, other) == Collected(1)
    assert set(names(lake)) == {"a", "b", "c", "of_another"}


def test_a_table_that_cannot_be_written_is_one_line(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(instance, ["a"])

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(history, "write_deltalake", full)
    with pytest.raises(LakeError, match="cannot write to .*No space left"):
        collect(lake, instance)


def test_the_sensor_adds_and_tells_it_without_a_run(settings: Settings, instance: dg.DagsterInstance) -> None:
    evaluate(instance, ["a", "b"])
    sensor = check_history_sensor()
    resources = {"platform": Platform(settings)}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        told = sensor(context)
    assert isinstance(told, dg.SensorResult)
    (event,) = told.asset_events
    assert event.asset_key == asset_key(TABLE) and event.metadata["rows_added"].value == 2
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        assert isinstance(sensor(context), dg.SkipReason)


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_the_asset_does_the_same_by_hand(settings: Settings, lake: Lake, instance: dg.DagsterInstance) -> None:
    evaluate(instance, ["a", "b"])
    made = dg.materialize([check_results_asset(settings)], instance=instance, resources={"platform": Platform(settings)})
    (event,) = made.asset_materializations_for_node("ops__check_results")
    assert event.metadata["rows_added"].value == 2 and event.metadata["dagster/row_count"].value == 2
    assert names(lake) == ["a", "b"]


def test_a_tick_that_cannot_write_says_why(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evaluate(instance, ["a"])
    (tmp_path / "file").write_text("")
    blocked = settings.model_copy(update={"lake": str(tmp_path / "file")})
    with dg.build_sensor_context(instance=instance, resources={"platform": Platform(blocked)}) as context:
        told = check_history_sensor()(context)
    assert isinstance(told, dg.SkipReason) and TABLE in (told.skip_message or "")
