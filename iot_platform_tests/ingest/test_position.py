"""How far ingestion has come, read back from the tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable

from iot_platform.errors import LakeError
from iot_platform.ingest.broker import Range
from iot_platform.ingest.lag import TopicLag, committed_offsets, lag_of
from iot_platform.ingest.position import (
    FENCED,
    QUARANTINE,
    READINGS,
    TABLES,
    Position,
    TablePosition,
    raise_newest,
    read_position,
)
from iot_platform.ingest.transactions import commit_once
from iot_platform.lake.lake import Lake
from iot_platform_tests.conftest import MakeSettings
from iot_platform_tests.contracts.messages import EVENT_US
from iot_platform_tests.ingest.bronze import commit

TOPIC = "iot.sensor-readings"


@pytest.fixture
def lake(make_settings: MakeSettings) -> Lake:
    return Lake(make_settings())


def stream_metadata(end: int, seq: int) -> dict[str, object]:
    return {
        "ingest_seq": seq, "ends": {TOPIC: {"0": end}}, "topic_ids": {TOPIC: "id-1"},
        "newest_by_partition": {TOPIC: {"0": EVENT_US + seq}}, "newest_by_contract": {"sensor_reading": EVENT_US + seq},
    }  # fmt: skip


def test_without_tables_nothing_has_come_yet(lake: Lake) -> None:
    position = read_position(lake)
    assert (position.ends, position.generation, position.ingest_seq) == ({}, 1, 0)
    assert position.last_batch(READINGS) == -1
    assert position.is_exact


def test_the_position_is_the_smaller_end_of_both_tables(lake: Lake) -> None:
    commit(lake, READINGS, [(TOPIC, 0, 9)], stream_metadata(10, 5))
    commit(lake, QUARANTINE, [(TOPIC, 0, 3)], stream_metadata(4, 3))
    position = read_position(lake)
    assert position.ends == {TOPIC: {0: 4}} == committed_offsets(lake.settings)
    assert position.ingest_seq == 5
    assert position.newest_by_partition == {TOPIC: {0: EVENT_US + 5}}
    assert position.newest_by_contract == {"sensor_reading": EVENT_US + 5}
    assert position.topic_ids == {TOPIC: "id-1"}
    assert position.last_batch(READINGS) == 0


def test_what_one_table_never_heard_of_was_not_read(lake: Lake) -> None:
    commit(lake, READINGS, [(TOPIC, 0, 9)], stream_metadata(10, 5))
    assert read_position(lake).ends == {}
    commit(lake, QUARANTINE, [], stream_metadata(10, 5) | {"ends": {TOPIC: {"1": 3}}})
    assert read_position(lake).ends == {TOPIC: {}}


def test_commits_of_others_on_top_do_not_hide_it(lake: Lake) -> None:
    for table in TABLES:
        commit(lake, table, [(TOPIC, 0, 8)], stream_metadata(9, 1))
        commit(lake, table, [(TOPIC, 0, 9)], stream_metadata(10, 2), batch=1)
        DeltaTable(lake.path(table)).optimize.compact()
        for version in range(60):
            commit_once(lake, table, "other", version, metadata=json.dumps({"unrelated": True}))
    position = read_position(lake)
    assert position.ends == {TOPIC: {0: 10}}
    assert position.last_batch(READINGS) == 1


def test_without_commit_metadata_the_rows_say_it(lake: Lake) -> None:
    commit(lake, READINGS, [(TOPIC, 0, 4), (TOPIC, 0, 9), (TOPIC, 2, 1)], seq=77)
    commit(lake, QUARANTINE, [(TOPIC, 0, 6), (TOPIC, 2, 5)], seq=78)
    position = read_position(lake)
    assert position.ends == {TOPIC: {0: 7, 2: 2}}
    assert position.newest_by_partition == {TOPIC: {0: EVENT_US, 2: EVENT_US}}
    assert position.newest_by_contract == {"sensor_reading": EVENT_US}
    assert position.ingest_seq == 78
    assert not position.is_exact


def test_a_fenced_generation_is_over() -> None:
    tables = {READINGS: TablePosition({}, {1: FENCED, 2: 4}), QUARANTINE: TablePosition({}, {1: FENCED, 2: 3})}
    assert Position(tables).generation == 2
    tables[READINGS].transactions[2] = FENCED
    assert Position(tables).generation == 3
    assert Position(tables).last_batch(QUARANTINE) == -1


def test_event_time_never_goes_back() -> None:
    position = Position({})
    raise_newest(position, {TOPIC: {"0": 10}}, {"c": 10})
    raise_newest(position, {TOPIC: {0: 7, 1: 3}}, {"c": 4})
    assert position.newest_by_partition == {TOPIC: {0: 10, 1: 3}}
    assert position.newest_by_contract == {"c": 10}


def test_a_table_whose_log_is_damaged_is_named(lake: Lake) -> None:
    commit(lake, READINGS, [(TOPIC, 0, 4)])
    log = Path(lake.path(READINGS)) / "_delta_log"
    for file in log.glob("*.json"):
        file.write_text("{ torn")
    with pytest.raises(LakeError, match="bronze/readings"):
        read_position(lake)


def test_the_lag_counts_what_can_still_be_read() -> None:
    held = {TOPIC: {0: Range(0, 10), 1: Range(5, 20)}, "other": {0: Range(3, 3)}}
    assert lag_of(held, {TOPIC: {0: 4}}) == {TOPIC: TopicLag(30, 4, 21), "other": TopicLag(3, 0, 0)}
    assert lag_of(held, {TOPIC: {0: 12, 1: 20}})[TOPIC].lag == 0
