"""Maintenance changes no row, no level and no transaction, asks for no run, and gives way to whoever writes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from iot_platform.contracts.tables import TABLES
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import sync_registry
from iot_platform.errors import LakeError
from iot_platform.ingest.position import read_position
from iot_platform.lake import Lake
from iot_platform.lake.compaction import crowded_dates
from iot_platform.lake.ledger import offset_ledger
from iot_platform.lake.levels import Levels
from iot_platform.lake.maintain import MaintenanceResult, appended_tables, maintain, refuse_failed
from iot_platform.lake.stream_log import SUMMARY, last_stream_commit, stream_commits
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake, at

READINGS = "bronze/readings"
LATER = timedelta(days=40)


@pytest.fixture
def small(settings: Settings) -> Iterator[SmallLake]:
    """Twelve batches of two dates, and a refused message each; everything is made of them."""
    from iot_platform.engines import open_engine

    small = SmallLake(Lake(settings))
    for hour in range(12):
        small.ingest([{"event_time": at(D, hour)}, {"event_time": at(D + DAY, hour)}], [{}])
    engine = open_engine(settings)
    sync_registry(small.lake, engine, now=NOW)
    for table, days in Levels(small.lake).stale().items():
        for day in days:
            materialize_date(small.lake, engine, TRANSFORMS[table], day, now=NOW)
    yield small
    engine.close()


def state(lake: Lake) -> dict[str, Any]:
    """Everything that a run, a sensor or the ledger could see of the tables but their versions and files."""
    found: dict[str, Any] = {}
    for table in TABLES:
        if lake.exists(table):
            snapshot = lake.snapshot(table)
            found[table] = (snapshot.rows, snapshot.rows_by_date, snapshot.sequences, snapshot._transactions)
    position = read_position(lake)
    return found | {
        "stale": Levels(lake).stale(),
        "newest": dict(Levels(lake).newest),
        "ends": position.ends,
        "is_exact": position.is_exact,
        "seq": position.ingest_seq,
        "ledger": offset_ledger(lake),
    }


def done(results: list[MaintenanceResult]) -> dict[str, MaintenanceResult]:
    return {result.table: result for result in results}


def age(lake: Lake, table: str, by: timedelta, *, log: bool = True) -> None:
    """Make every file of a table, and of its log, look as old as that."""
    moment = time.time() - by.total_seconds()
    for path in Path(lake.path(table)).rglob("*"):
        if path.is_file() and (log or "_delta_log" not in path.parts):
            os.utime(path, (moment, moment))


def test_small_files_of_past_dates_become_few_and_nothing_else_changes(small: SmallLake) -> None:
    lake = small.lake
    assert not any(Levels(lake).stale().values())
    before = state(lake)
    result = done(maintain(lake, NOW))
    assert (result[READINGS].dates_compacted, result[READINGS].files_merged, result[READINGS].files_written) == (2, 24, 2)
    assert len(lake.snapshot(READINGS).active) == 2
    assert len(small.rows(READINGS)) == 24 and len({row["kafka_offset"] for row in small.rows(READINGS)}) == 24
    assert state(Lake(lake.settings)) == before
    again = done(maintain(lake, NOW))
    assert not any(result.did_anything for result in again.values()), again


def test_today_is_left_alone_and_so_are_derived_tables(small: SmallLake) -> None:
    today = at(D + DAY, 13)
    assert crowded_dates(small.lake.snapshot(READINGS), today.date()) == [D]
    versions = {table: small.lake.snapshot(table).version for table in TRANSFORMS}
    maintain(small.lake, today)
    assert {table: small.lake.snapshot(table).version for table in TRANSFORMS} == versions
    assert READINGS in appended_tables() and "silver/readings" not in appended_tables()


def test_levels_outlive_compaction_checkpoint_and_the_end_of_the_log(small: SmallLake) -> None:
    lake = small.lake
    before = state(lake)
    maintain(lake, NOW)
    for table in TABLES:
        if lake.exists(table):
            age(lake, table, timedelta(days=1))
    maintain(lake, NOW)
    assert state(Lake(lake.settings)) == before


def test_what_the_stream_said_long_ago_is_said_again_before_its_commits_go(small: SmallLake) -> None:
    lake = small.lake
    before = state(lake)
    committed = len(stream_commits(lake.snapshot(READINGS).delta))
    maintain(lake, NOW)
    old = {table: lake.snapshot(table).version for table in (READINGS, "bronze/quarantine")}
    # Long after, nothing was ingested any more: the log that held the offsets and times is 40 days old.
    now = stream_commits(lake.snapshot(READINGS).delta)[0].at + LATER
    assert done(maintain(lake, now))[READINGS].is_summarized
    metadata = last_stream_commit(lake.snapshot(READINGS).delta) or {}
    assert metadata[SUMMARY] == committed == 12
    for table, version in old.items():
        log = Path(lake.path(table)) / "_delta_log"
        for path in log.glob("0*"):
            if int(path.name.split(".")[0]) <= version:
                moment = time.time() - LATER.total_seconds()
                os.utime(path, (moment, moment))
        lake.writable(table).delta.cleanup_metadata()
        assert not (log / f"{1:020d}.json").exists()
    assert state(Lake(lake.settings)) == before
    small.ingest([{"event_time": at(D, 13)}])
    assert offset_ledger(Lake(lake.settings)).consumed == 25 + 12
    assert offset_ledger(Lake(lake.settings)).is_balanced


def test_a_summary_is_made_anew_before_it_is_itself_too_old(small: SmallLake) -> None:
    newest = stream_commits(small.lake.snapshot(READINGS).delta)[0].at
    assert not done(maintain(small.lake, newest + timedelta(days=1)))[READINGS].is_summarized
    for days in (8, 40):
        assert done(maintain(small.lake, newest + timedelta(days=days)))[READINGS].is_summarized
    (only,) = stream_commits(small.lake.snapshot(READINGS).delta)
    assert only.metadata["messages"] == 36 and only.metadata["offsets"] == {"iot.sensor-readings": {"0": [0, 36]}}


def test_files_that_only_old_versions_name_go_after_a_week_and_no_sooner(small: SmallLake) -> None:
    lake = small.lake
    held = lake.snapshot(READINGS)
    orphan = Path(lake.path(READINGS)) / f"event_date={D}" / "never-committed.parquet"
    orphan.write_bytes(b"of a batch that died")
    maintain(lake, NOW)
    assert orphan.exists() and all(Path(path).exists() for path in held.files())  # whoever reads them goes on
    with pytest.raises(ValueError, match="at least 7 days"):
        maintain(lake, NOW, timedelta(days=1))
    age(lake, READINGS, timedelta(days=8), log=False)
    result = done(maintain(lake, NOW))
    assert result[READINGS].files_removed >= 1 and not orphan.exists()
    assert len(small.rows(READINGS)) == 24


def test_writers_and_maintenance_do_not_fail_each_other(small: SmallLake) -> None:
    lake = small.lake
    failed: list[BaseException] = []

    def write() -> None:
        try:
            for minute in range(15):
                small.ingest([{"event_time": at(D, 13, minute)}], [{}])
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        maintain(Lake(lake.settings), NOW)
    writer.join()
    assert not failed
    maintain(lake, NOW)
    assert len(small.rows(READINGS)) == 24 + 15
    assert offset_ledger(Lake(lake.settings)).is_balanced
    assert len(lake.snapshot(READINGS).active) <= 6


def test_a_date_that_a_writer_was_faster_with_is_left_for_the_next_time(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake import DeltaTable

    commit = DeltaTable.create_write_transaction
    newest: list[Any] = []

    def beaten(self: DeltaTable, actions: list[Any], *rest: Any, **chosen: Any) -> None:
        days = {action.partition_values["event_date"] for action in actions if isinstance(action, AddAction)}
        newest.append(days) if days and not newest else None
        if days and days == newest[0]:
            raise CommitFailedError("a concurrent transaction deleted data this operation read")
        commit(self, actions, *rest, **chosen)

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", beaten)
        first = done(maintain(small.lake, NOW))[READINGS]
    assert newest == [{str(D + DAY)}] and first.dates_compacted == 1 and str(D + DAY) in first.skipped[0]
    assert done(maintain(small.lake, NOW))[READINGS].dates_compacted == 1


def test_a_summary_that_a_writer_was_faster_than_waits_and_a_full_disk_is_told(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deltalake import DeltaTable

    later = stream_commits(small.lake.snapshot(READINGS).delta)[0].at + timedelta(days=8)
    commit = DeltaTable.create_write_transaction

    def beaten(*_arguments: Any, **_chosen: Any) -> None:
        raise CommitFailedError("version 13 already exists")

    def full(*_arguments: Any, **_chosen: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", beaten)
    first = done(maintain(small.lake, later))[READINGS]
    assert not first.is_summarized and "already exists" in first.skipped[0]
    monkeypatch.setattr(DeltaTable, "create_write_transaction", full)
    with pytest.raises(LakeError, match="not maintained: bronze/readings, .*no space left"):
        refuse_failed(maintain(small.lake, later))
    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)
    assert done(maintain(small.lake, later))[READINGS].is_summarized
