"""Where a stream begins: with its checkpoint, or as a new generation that fences the old ones."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable

from iot_platform.errors import DataError
from iot_platform.ingest.broker import Held, Range
from iot_platform.ingest.checkpoint import Checkpoint
from iot_platform.ingest.generation import choose_start, losses, made_again, starting_offsets
from iot_platform.ingest.position import FENCED, QUARANTINE, READINGS, TABLES, Position, TablePosition, app_id, read_position
from iot_platform.lake.lake import Lake
from iot_platform_tests.conftest import MakeSettings
from iot_platform_tests.ingest.bronze import commit
from iot_platform_tests.ingest.test_checkpoint import write

TOPIC = "iot.readings"


@pytest.fixture
def lake(make_settings: MakeSettings) -> Lake:
    return Lake(make_settings())


def held(low: int = 0, high: int = 100, topic_id: str = "one") -> Held:
    return Held({TOPIC: {0: Range(low, high), 1: Range(low, high)}}, {TOPIC: topic_id})


def committed(lake: Lake, readings_end: int, quarantine_end: int, batch: int = 0) -> None:
    for table, end in ((READINGS, readings_end), (QUARANTINE, quarantine_end)):
        ends = {TOPIC: {"0": end, "1": end}}
        commit(lake, table, [(TOPIC, 0, end - 1)], {"ingest_seq": 1, "ends": ends, "topic_ids": {TOPIC: "one"}}, batch=batch)


def test_the_first_start_reads_from_the_oldest_message(lake: Lake) -> None:
    start = choose_start(lake.settings, lake, held(3))
    assert (start.generation, start.reason, start.starting) == (1, "", {TOPIC: {0: 3, 1: 3}})
    assert lake.exists(READINGS) and lake.exists(QUARANTINE)


def test_a_good_checkpoint_is_gone_on_with(lake: Lake) -> None:
    committed(lake, 25, 25, batch=1)
    write(Checkpoint.of(lake.settings, 1).path, 1, 1)
    start = choose_start(lake.settings, lake, held())
    assert (start.generation, start.reason) == (1, "")
    assert DeltaTable(lake.path(READINGS)).transaction_version(app_id(READINGS, 1)) == 1


def test_a_lost_checkpoint_fences_the_old_generation_and_begins_at_the_smaller_end(lake: Lake) -> None:
    committed(lake, 25, 15, batch=1)
    start = choose_start(lake.settings, lake, held())
    assert (start.generation, start.starting) == (2, {TOPIC: {0: 15, 1: 15}})
    assert "gone" in start.reason
    for table in TABLES:
        assert DeltaTable(lake.path(table)).transaction_version(app_id(table, 1)) == FENCED
    assert start.position.tables[READINGS].ends == {TOPIC: {0: 25, 1: 25}}


def test_a_start_that_died_after_the_fence_is_gone_on_with(lake: Lake) -> None:
    committed(lake, 25, 25, batch=1)
    assert choose_start(lake.settings, lake, held()).generation == 2
    versions = [DeltaTable(lake.path(table)).version() for table in TABLES]
    assert choose_start(lake.settings, lake, held()).generation == 2
    assert [DeltaTable(lake.path(table)).version() for table in TABLES] == versions


def test_whoever_takes_over_from_one_that_may_live_begins_anew(lake: Lake) -> None:
    committed(lake, 25, 25, batch=1)
    write(Checkpoint.of(lake.settings, 1).path, 1, 1)
    start = choose_start(lake.settings, lake, held(), force_new=True)
    assert start.generation == 2
    assert start.checkpoint.is_absent
    assert "another process" in start.reason


def test_whoever_takes_over_before_anything_was_committed_shares_no_checkpoint_either(lake: Lake) -> None:
    assert choose_start(lake.settings, lake, held(), force_new=True).generation == 2
    assert [DeltaTable(lake.path(table)).transaction_version(app_id(table, 1)) for table in TABLES] == [FENCED, FENCED]


def test_messages_that_expired_unread_stop_it_until_the_loss_is_accepted(lake: Lake) -> None:
    committed(lake, 25, 25, batch=1)
    write(Checkpoint.of(lake.settings, 1).path, 1, 1)
    with pytest.raises(DataError, match=r"iot.readings/0 offsets 25 to 39"):
        choose_start(lake.settings, lake, held(low=40))
    start = choose_start(lake.settings, lake, held(low=40), accept_loss=True)
    assert (start.generation, start.starting) == (2, {TOPIC: {0: 40, 1: 40}})


@pytest.mark.parametrize("now", [held(high=10), held(topic_id="two"), Held({TOPIC: {0: Range(0, 50)}}, {TOPIC: "one"})])
def test_a_topic_made_again_stops_it_for_good(lake: Lake, now: Held) -> None:
    committed(lake, 25, 25, batch=1)
    with pytest.raises(DataError, match="not the one that was read before"):
        choose_start(lake.settings, lake, now, accept_loss=True)


def test_a_topic_made_again_of_which_nothing_was_read_is_as_good_as_the_old_one(lake: Lake) -> None:
    ends = {TOPIC: {"0": 0, "1": 0}}
    for table in TABLES:
        commit(lake, table, [("another", 0, 0)], {"ingest_seq": 1, "ends": ends, "topic_ids": {TOPIC: "one"}}, batch=1)
    write(Checkpoint.of(lake.settings, 1).path, 1, 1)
    assert made_again(held(topic_id="two"), read_position(lake)) == []


def test_a_topic_that_is_no_longer_declared_is_nobodys_loss() -> None:
    tables = {table: TablePosition({"gone": {0: 9}}) for table in TABLES}
    assert made_again(held(), Position(tables)) == []
    assert losses(held().offsets, Position(tables)) == []


def test_ends_told_by_rows_alone_accuse_nobody() -> None:
    tables = {table: TablePosition({TOPIC: {0: 5}}, is_exact=False) for table in TABLES}
    assert losses(held(low=40).offsets, Position(tables)) == []
    assert starting_offsets(held(low=40).offsets, Position(tables)) == {TOPIC: {0: 40, 1: 40}}
