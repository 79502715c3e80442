"""The ledger balances when nothing vanished, says what waits, and does not balance when something is gone."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from iot_platform.lake import Lake
from iot_platform.lake.consumption import consumed, offsets_taken
from iot_platform.lake.ledger import REDRIVEN, DateLedger, OffsetLedger, date_ledger, offset_ledger
from iot_platform.lake.stream_log import summary_of
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake

COPIED = ("contract", "contract_version", "event_id", "device_id", "metric", "value", "event_time", "topic")


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    return SmallLake(Lake(settings))


def copy(row: dict[str, Any], **other: Any) -> dict[str, Any]:
    """A Bronze row as Silver or the rejected table holds it."""
    made = {"recent_count": 0, "is_anomaly": False, "processed_at": row["ingested_at"], "pipeline_version": "t"}
    return row | made | other


def settle(small: SmallLake, day: date = D, *, silver: int | None = None, reasons: tuple[str, ...] = ()) -> None:
    """Make Silver of a date by hand: the first rows are usable, the last ones rejected; at the levels that are needed."""
    from iot_platform.lake.levels import Levels
    from iot_platform.transforms.catalog import TRANSFORMS

    rows = sorted(
        (row for row in small.rows("bronze/readings") if row["event_date"] == day), key=lambda row: row["kafka_offset"]
    )
    kept = len(rows) - len(reasons) if silver is None else silver
    levels = Levels(small.lake)
    for table, content in (
        ("silver/readings", [copy(row) for row in rows[:kept]]),
        ("silver/rejected_readings", [copy(row, reason=reason) for row, reason in zip(rows[kept:], reasons, strict=False)]),
    ):
        small.put(table, day, only(content, table), level=levels.needed(TRANSFORMS[table], day))


def only(rows: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    from iot_platform.contracts.tables import TABLES

    return [{name: row.get(name) for name in TABLES[table].column_names} for row in rows]


def test_an_empty_lake_has_an_empty_ledger_that_balances(small: SmallLake) -> None:
    assert date_ledger(small.lake) == []
    assert offset_ledger(small.lake) == OffsetLedger(0, 0, 0)
    assert offset_ledger(small.lake).is_balanced


def test_what_is_not_made_yet_is_pending(small: SmallLake) -> None:
    small.day(readings=10)
    (line,) = date_ledger(small.lake)
    assert (line.bronze, line.silver, line.pending, line.is_balanced) == (10, 0, 10, True)


def test_every_row_is_usable_or_rejected_with_a_reason(small: SmallLake) -> None:
    small.day(readings=10)
    settle(small, reasons=("duplicate", "duplicate", "out_of_range"))
    (line,) = date_ledger(small.lake)
    assert line.as_json() == {
        "event_date": "2026-03-10", "bronze": 10, "silver": 7, "rejected": {"duplicate": 2, "out_of_range": 1},
        "pending": 0, "erased": 0, "expired": 0, "balanced": True,
    }  # fmt: skip


def test_a_late_row_is_pending_until_its_date_is_made_again(small: SmallLake) -> None:
    small.day(readings=10)
    settle(small)
    small.day(readings=2)
    (line,) = date_ledger(small.lake)
    assert (line.bronze, line.silver, line.pending, line.is_balanced) == (12, 10, 2, True)


def test_a_row_that_vanished_is_no_pending_one(small: SmallLake) -> None:
    small.day(readings=10)
    settle(small, silver=9)
    (line,) = date_ledger(small.lake)
    assert (line.pending, line.difference, line.is_balanced) == (0, 1, False)


def test_a_row_out_of_nowhere_does_not_balance(small: SmallLake) -> None:
    small.day(readings=3)
    settle(small)
    rows = small.rows("silver/readings")
    small.put("silver/readings", D, [*rows, rows[0] | {"event_id": "nobody sent this"}])
    (line,) = date_ledger(small.lake)
    assert (line.difference, line.is_balanced) == (-1, False)


def test_only_the_dates_asked_for_are_told(small: SmallLake) -> None:
    small.day(D)
    small.day(D + DAY)
    assert [line.event_date for line in date_ledger(small.lake, [D + DAY, D + 5 * DAY])] == [D + DAY, D + 5 * DAY]
    assert [line.bronze for line in date_ledger(small.lake, [D + DAY, D + 5 * DAY])] == [24, 0]


def test_erased_and_expired_rows_enter_the_balance() -> None:
    assert DateLedger(D, bronze=10, silver=7, rejected={"duplicate": 1}, erased=2).is_balanced
    assert DateLedger(D, bronze=0, silver=7, rejected={"duplicate": 3}, expired=10).is_balanced


def test_every_offset_is_in_bronze_or_in_quarantine(small: SmallLake) -> None:
    small.ingest([{"event_time": _at(n)} for n in range(5)], refused=[{}, {}])
    small.ingest([{"event_time": _at(9)}])
    assert offset_ledger(small.lake).as_json() == {
        "consumed": 8, "bronze_messages": 6, "quarantined": 2, "redriven": 0, "erased": 0, "expired": 0, "landing": 0,
        "without_record": 0, "balanced": True,
    }  # fmt: skip


def test_a_message_of_three_readings_is_one_message(small: SmallLake) -> None:
    small.ingest([{"event_time": _at(1)}])
    row = small.rows("bronze/readings")[0]
    small.ingest([row | {"metric": "humidity"}, row | {"metric": "energy"}])
    ledger = offset_ledger(small.lake)
    assert ledger.bronze_messages == 1 and not ledger.is_balanced  # the stream said it took three


def test_a_redriven_message_stands_in_both_tables(small: SmallLake) -> None:
    small.ingest([], refused=[{}, {}])
    place = small.rows("bronze/quarantine")[0]
    again = {"event_time": _at(1), "kafka_offset": place["kafka_offset"]}
    small.put("bronze/readings", D, [small._reading(again) | again])
    assert not offset_ledger(small.lake).is_balanced  # in both tables, and no redrive brought it
    bronze = small.lake.writable("bronze/readings")
    small.lake.commit_transaction(bronze, REDRIVEN, 1)
    ledger = offset_ledger(small.lake)
    assert (ledger.bronze_messages, ledger.quarantined, ledger.redriven, ledger.is_balanced) == (1, 2, 1, True)


def test_a_lost_message_does_not_balance(small: SmallLake) -> None:
    small.offset = 1  # the first offset was consumed, by the commit's own word, and is in neither table
    small.ingest([{"event_time": _at(1)}])
    commits = [{"messages": 2, "offsets": {"t": {"0": [0, 2]}}}]
    assert consumed(commits, {("t", 0): (1, 1)}) == 2


def test_control_records_of_transactions_are_no_messages() -> None:
    assert consumed([{"messages": 8, "offsets": {"t": {"0": [0, 10]}}}], {("t", 0): (0, 8)}) == 8


def test_a_batch_taken_again_for_one_table_counts_once() -> None:
    commits = [{"messages": 6, "offsets": {"t": {"0": [8, 12]}}}, {"messages": 8, "offsets": {"t": {"0": [0, 8]}}}]
    assert consumed(commits) == 12


def test_records_that_each_commit_counted_are_right_though_one_was_taken_again_and_others_expired() -> None:
    commits = [
        {"messages": 2, "records": 2, "offsets": {"t": {"0": [20, 22]}}},  # 12 … 19 were given up
        {"messages": 6, "records": 4, "offsets": {"t": {"0": [8, 12]}}},  # 2 of them were landed for quarantine only
        {"messages": 8, "records": 8, "offsets": {"t": {"0": [0, 8]}}},
    ]
    assert (consumed(commits), offsets_taken(commits)) == (14, 22)
    assert summary_of(commits)["records"] == 14


def test_rows_older_than_the_oldest_commit_count_by_their_offsets() -> None:
    assert consumed([{"messages": 4, "offsets": {"t": {"0": [8, 12]}}}], {("t", 0): (0, 12)}) == 12


def _at(hour: int) -> Any:
    from iot_platform_tests.assets.small_lake import at

    return at(D, hour)
