"""Files written by workers and the commits that make them visible: what readers of Delta see, and once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.pandera import polars_schema
from iot_platform.contracts.tables import BRONZE_QUARANTINE, BRONZE_READINGS
from iot_platform.contracts.timestamps import render
from iot_platform.errors import LakeError, ServiceError
from iot_platform.ingest import files as files_module
from iot_platform.ingest.batch import BatchRules, Stamp
from iot_platform.ingest.files import FILE, SUMMARY, DataFile, Writer, statistics
from iot_platform.ingest.position import FENCED, QUARANTINE, READINGS
from iot_platform.ingest.transactions import commit_once
from iot_platform.lake.lake import Lake
from iot_platform_tests.conftest import MakeSettings
from iot_platform_tests.contracts.messages import ARRIVAL_US, EVENT_US, RULES, message, record
from iot_platform_tests.ingest.kafka_batches import kafka_batch

DAY_US = 86_400_000_000


@pytest.fixture
def lake(make_settings: MakeSettings) -> Lake:
    lake = Lake(make_settings())
    for table in (READINGS, QUARANTINE):
        lake.ensure(table)
    return lake


def written(lake: Lake, count: int = 40) -> list[DataFile]:
    """Files of readings over two dates, and of one refused message with headers."""
    records = [
        record(message("sensor_reading", sensor_id=f"s-{n % 3}", timestamp=render(EVENT_US - n % 2 * DAY_US + 7)), offset=n)
        for n in range(count)
    ]
    bad = record(b"{", offset=count, headers=[("h", b"1"), ("i", None)])
    writer = Writer(lake.storage, BatchRules(RULES), Stamp(3, 55, ARRIVAL_US))
    results = pa.Table.from_batches(writer([kafka_batch([*records, bad])])).to_pylist()
    assert [row["kind"] for row in results].count(SUMMARY) == 1
    return [DataFile(**json.loads(row["detail"])) for row in results if row["kind"] == FILE]


def of(files: list[DataFile], table: str) -> list[DataFile]:
    return [file for file in files if file.table == table]


def test_what_was_written_is_read_back_by_every_reader(lake: Lake) -> None:
    files = written(lake)
    for table in (BRONZE_READINGS, BRONZE_QUARANTINE):
        assert commit_once(lake, table.name, "app", 1, files=of(files, table.name), metadata='{"x": 1}')
        frame = pl.read_delta(lake.path(table.name)).select(table.column_names)
        polars_schema(table).validate(frame, lazy=True)
        sql = select_files(table, lake.snapshot(table.name).files())
        with duckdb.connect() as connection:
            read = connection.execute(sql).fetchall()
        assert len(read) == len(frame) == (40 if table is BRONZE_READINGS else 1)
    assert pl.read_delta(lake.path(QUARANTINE))["headers"].to_list() == [
        [{"key": "h", "value": b"1"}, {"key": "i", "value": None}]
    ]
    snapshot = lake.snapshot(READINGS)
    assert snapshot.rows_by_date == {date(2026, 11, 18): 20, date(2026, 11, 19): 20}
    assert set(snapshot.sequences.values()) == {55}


def test_each_file_is_one_date_sorted_by_the_tables_order(lake: Lake) -> None:
    files = of(written(lake), READINGS)
    assert [file.day for file in files] == ["2026-11-18", "2026-11-19"]
    for file in files:
        rows = pl.read_parquet(f"{lake.path(READINGS)}/{file.path}", hive_partitioning=False)
        assert rows.select(BRONZE_READINGS.sort).equals(rows.select(BRONZE_READINGS.sort).sort(BRONZE_READINGS.sort))
        assert "event_date" not in rows.columns


def test_a_worker_does_not_hold_more_than_a_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "ROWS_PER_FILE", 10)
    batches = [kafka_batch([record(message("sensor_reading"), offset=n)]) for n in range(25)]
    writer = Writer(lake.storage, BatchRules(RULES), Stamp(3, 55, ARRIVAL_US))
    results = pa.Table.from_batches(writer(batches)).to_pylist()
    sizes = [json.loads(json.loads(row["detail"])["stats"])["numRecords"] for row in results if row["kind"] == FILE]
    assert sizes == [10, 10, 5]


def test_statistics_bound_the_rows_from_outside() -> None:
    moments = [EVENT_US + 1, EVENT_US + 999]
    rows = pa.table(
        {
            "event_time": pa.array(moments, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            "kafka_offset": [4, 9],
            "device_id": [None, "b"],
            "window_start": pa.nulls(2, pa.timestamp("us", tz="UTC")),
            "value": [1.0, 2.0],
        }
    )
    assert statistics(rows) == {
        "numRecords": 2,
        "minValues": {"event_time": "2026-11-19T10:11:12.345Z", "kafka_offset": 4, "device_id": "b"},
        "maxValues": {"event_time": "2026-11-19T10:11:12.346Z", "kafka_offset": 9, "device_id": "b"},
        "nullCount": {"event_time": 0, "kafka_offset": 0, "device_id": 1, "window_start": 2},
    }


def test_a_date_filter_prunes_by_these_statistics(lake: Lake) -> None:
    commit_once(lake, READINGS, "app", 1, files=of(written(lake), READINGS))
    noon = datetime(2026, 11, 19, 12, tzinfo=UTC)
    frame = pl.scan_delta(lake.path(READINGS)).filter(pl.col("event_time") < noon).collect()
    assert len(frame) == 40


def test_a_transaction_is_committed_once_whoever_tries(lake: Lake) -> None:
    files = of(written(lake), READINGS)
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: commit_once(lake, READINGS, "app", 5, files=files), range(12)))
    assert done.count(True) == 1
    assert DeltaTable(lake.path(READINGS)).version() == 1
    assert lake.snapshot(READINGS).rows == 40
    assert not commit_once(lake, READINGS, "app", 4, files=files)
    assert commit_once(lake, READINGS, "app", 6)


def test_different_transactions_at_the_same_time_all_arrive(lake: Lake) -> None:
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(lambda n: commit_once(lake, READINGS, f"app-{n}", 1), range(8)))
    assert DeltaTable(lake.path(READINGS)).version() == 8


def test_a_fenced_generation_cannot_commit(lake: Lake) -> None:
    files = of(written(lake), READINGS)
    assert commit_once(lake, READINGS, "app", FENCED)
    assert not commit_once(lake, READINGS, "app", FENCED)
    with pytest.raises(ServiceError, match="took over"):
        commit_once(lake, READINGS, "app", 7, files=files)
    assert lake.snapshot(READINGS).rows == 0


def test_a_table_that_cannot_be_written_is_one_line(lake: Lake) -> None:
    (Path(lake.path(READINGS)) / "_delta_log" / f"{1:020}.json").mkdir()
    with pytest.raises(LakeError) as failed:
        commit_once(lake, READINGS, "app", 1)
    assert "\n" not in str(failed.value)
