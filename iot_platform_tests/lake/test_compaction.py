"""A merge puts fewer, sorted files in the place of a date's small ones, and gives way to whoever touches these meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from iot_platform.errors import InputError, LakeError
from iot_platform.lake import Lake, compaction
from iot_platform.lake.compaction import Overtaken, merge
from iot_platform.lake.maintain import Chosen, maintain
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake, at

READINGS, QUARANTINE = "bronze/readings", "bronze/quarantine"
DEVICES = ("d3", "d1", "d2")


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    """Six batches of three devices on two dates, unsorted, and a message refused in each."""
    small = SmallLake(Lake(settings))
    for hour in range(6):
        rows = [
            {"event_time": at(day, 12 - hour, minute), "device_id": device, "value": float(minute)}
            for minute in range(30) for device in DEVICES for day in (D, D + DAY)
        ]  # fmt: skip
        small.ingest(rows, [{"value": b"{" * hour, "headers": [{"key": "k", "value": None}], "event_date": D}])
    return small


def in_order(small: SmallLake, table: str) -> list[tuple[Any, ...]]:
    names = sorted(small.lake.contract(table).column_names)
    return sorted(tuple(str(row[name]) for name in names) for row in small.rows(table))


def newest_commit(lake: Lake, table: str) -> list[dict[str, Any]]:
    path = Path(lake.path(table)) / "_delta_log" / f"{lake.snapshot(table).version:020d}.json"
    return [json.loads(line) for line in path.read_text().splitlines()]


def during_merge(act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do this once, between the writing of the files and their commit."""
    waiting = [act]
    monkeypatch.setattr(
        compaction, "reach", lambda name: waiting.pop()() if waiting and name == "maintain.before_commit" else None
    )


def files_of(lake: Lake, table: str) -> set[str]:
    return {str(path) for path in Path(lake.path(table)).rglob("*.parquet") if "_delta_log" not in path.parts}


def test_a_merged_date_is_one_file_in_the_contracts_order_with_the_same_rows(small: SmallLake) -> None:
    lake = small.lake
    before = {table: in_order(small, table) for table in (READINGS, QUARANTINE)}
    sequences, size = lake.snapshot(READINGS).sequences, lake.snapshot(READINGS).size
    done = merge(lake, READINGS, D)
    assert (done.files, done.written) == (6, 1) and done.size_written < done.size < size
    (merged,) = lake.snapshot(READINGS).files([D])
    rows = pq.read_table(merged, columns=["device_id", "metric", "event_time"]).to_pylist()
    keys = [tuple(row.values()) for row in rows]
    assert keys == sorted(keys) and len(keys) == 6 * 90
    column = pq.ParquetFile(merged).metadata.row_group(0).column(pq.read_schema(merged).names.index("event_time"))
    assert column.compression == "ZSTD" and "DELTA_BINARY_PACKED" in column.encodings
    assert merge(lake, QUARANTINE, D).written == 1
    assert {table: in_order(small, table) for table in before} == before
    assert lake.snapshot(READINGS).sequences == sequences
    assert merge(lake, READINGS, D) == compaction.Merge()  # nothing is left to merge


def test_who_follows_the_tables_changes_sees_none(small: SmallLake) -> None:
    merge(small.lake, READINGS, D)
    actions = [line for line in newest_commit(small.lake, READINGS) if "add" in line or "remove" in line]
    assert len(actions) == 7
    assert not any(action["dataChange"] for line in actions for action in line.values())


def test_statistics_of_the_merged_file_are_those_of_its_rows(small: SmallLake) -> None:
    merge(small.lake, READINGS, D)
    (add,) = [line["add"] for line in newest_commit(small.lake, READINGS) if "add" in line]
    stats = json.loads(add["stats"])
    assert stats["numRecords"] == 540
    assert (stats["minValues"]["device_id"], stats["maxValues"]["device_id"]) == ("d1", "d3")
    assert stats["minValues"]["event_time"] == "2026-03-10T07:00:00.000Z"
    assert stats["maxValues"]["ingest_seq"] == small.seq


def test_a_large_date_becomes_several_files_each_of_a_range_of_devices(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "TARGET_BYTES", 1)
    monkeypatch.setattr(compaction, "ROWS_AT_ONCE", 180)
    before = in_order(small, READINGS)
    assert merge(small.lake, READINGS, D).written == 3
    assert in_order(small, READINGS) == before
    ranges = sorted(
        (min(names), max(names))
        for path in small.lake.snapshot(READINGS).files([D])
        for names in [pq.read_table(path, columns=["device_id"]).column(0).to_pylist()]
    )
    assert ranges == [("d1", "d1"), ("d2", "d2"), ("d3", "d3")]


def test_a_batch_that_lands_meanwhile_is_kept(small: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    during_merge(lambda: small.ingest([{"event_time": at(D, 20)}]), monkeypatch)
    assert merge(small.lake, READINGS, D).written == 1
    snapshot = small.lake.snapshot(READINGS)
    assert len(snapshot.files([D])) == 2 and snapshot.rows_by_date[D] == 541
    assert snapshot.sequences[D] == small.seq


def test_who_deletes_the_rows_meanwhile_wins_and_nothing_is_left_lying(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = small.lake
    before = files_of(lake, READINGS)
    during_merge(lambda: lake.writable(READINGS).delta.delete("device_id = 'd1'"), monkeypatch)
    with pytest.raises(Overtaken, match="replaced its files"):
        merge(lake, READINGS, D)
    assert not any(row["device_id"] == "d1" for row in small.rows(READINGS))
    named = set(lake.snapshot(READINGS).files())
    assert files_of(lake, READINGS) == before | named  # the merged file was taken back
    during_merge(lambda: lake.writable(READINGS).delta.delete("device_id = 'd2'"), monkeypatch)
    for hour in range(4):
        small.ingest([{"event_time": at(D, hour)}])
    result = {one.table: one for one in maintain(lake, NOW)}[READINGS]
    assert f"{D}: a writer replaced its files" in result.skipped[0]


def test_a_file_that_does_not_hold_what_the_log_says_is_not_merged(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_sorted_rows", lambda *_: iter(()))
    with pytest.raises(LakeError, match="hold 0 rows, the log says 540"):
        merge(small.lake, READINGS, D)
    assert len(small.lake.snapshot(READINGS).files([D])) == 6


def test_only_what_is_chosen_is_maintained(small: SmallLake) -> None:
    lake = small.lake
    versions = {table: lake.snapshot(table).version for table in (READINGS, QUARANTINE)}
    (dry,) = maintain(lake, NOW, chosen=Chosen(frozenset({READINGS}), D, D), dry_run=True)
    assert (dry.dates_compacted, dry.files_merged, dry.bytes_merged > 0) == (1, 6, True)
    assert {table: lake.snapshot(table).version for table in versions} == versions
    (done,) = maintain(lake, NOW, chosen=Chosen(frozenset({READINGS}), D, D))
    assert (done.table, done.dates_compacted, done.bytes_merged) == (READINGS, 1, dry.bytes_merged)
    assert not done.is_checkpointed and lake.snapshot(QUARANTINE).version == versions[QUARANTINE]
    assert [len(lake.snapshot(READINGS).files([day])) for day in (D, D + DAY)] == [1, 6]
    (whole,) = maintain(lake, NOW, chosen=Chosen(frozenset({QUARANTINE})))
    assert (whole.table, whole.is_checkpointed, whole.dates_compacted) == (QUARANTINE, True, 1)


def test_a_dry_run_commits_and_removes_nothing(small: SmallLake) -> None:
    lake = small.lake
    before = {table: (lake.snapshot(table).version, files_of(lake, table)) for table in (READINGS, QUARANTINE)}
    planned = maintain(lake, NOW + timedelta(days=30), dry_run=True)
    assert {table: (lake.snapshot(table).version, files_of(lake, table)) for table in before} == before
    assert {one.table: one.dates_compacted for one in planned}[READINGS] == 2


def test_the_command_merges_a_date_and_refuses_what_it_cannot(small: SmallLake, make_settings: Any) -> None:
    from iot_platform.cli.maintain import _chosen

    assert _chosen(small.lake, [], (D, D)).tables >= {READINGS, QUARANTINE}
    with pytest.raises(InputError, match="replaced date by date"):
        _chosen(small.lake, ["silver/readings"], (D, D))
    with pytest.raises(InputError, match="there is no table"):
        _chosen(small.lake, ["silver/nonsense"], None)
