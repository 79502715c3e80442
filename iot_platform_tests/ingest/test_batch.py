"""One pass over Kafka's records: readings and refusals, lateness, and what a repeated batch decides."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.parse import KafkaRecord
from iot_platform.contracts.timestamps import EPOCH, render
from iot_platform.errors import DataError
from iot_platform.ingest.batch import BatchRules, Landing, Stamp
from iot_platform.ingest.summary import LATE_US, BatchSummary
from iot_platform_tests.contracts.messages import ARRIVAL_US, EVENT_US, RULES, VALID, message, record
from iot_platform_tests.ingest.kafka_batches import kafka_batch

TOPIC = "iot.sensor-readings"
MINUTE_US = 60_000_000


STAMP = Stamp(batch_id=4, ingest_seq=77, began_us=ARRIVAL_US + 5)


class Outcome:
    """What became of the records: rows of either table, and the summary."""

    def __init__(self, *batches: list[KafkaRecord], rules: BatchRules | None = None) -> None:
        landing = Landing(rules or BatchRules(RULES), STAMP)
        self.rows: dict[str, list[dict[str, Any]]] = {"bronze/readings": [], "bronze/quarantine": []}
        for table, rows in landing.land(map(kafka_batch, batches)):
            assert rows.schema == arrow_schema(table)
            self.rows[table.name] += rows.to_pylist()
        self.readings, self.refused = self.rows.values()
        self.summaries = landing.summaries()
        self.summary = BatchSummary.of(self.summaries)
        self.late = [row["is_late"] for row in self.readings]


def landed(*batches: list[KafkaRecord], rules: BatchRules | None = None) -> Outcome:
    return Outcome(*batches, rules=rules)


def at(offset: int, event_us: int, arrival_us: int = ARRIVAL_US, **changes: Any) -> KafkaRecord:
    sent = message("sensor_reading", timestamp=render(event_us))
    return record(sent, offset=offset, timestamp_us=arrival_us, **changes)


def test_readings_and_refusals_leave_in_one_pass() -> None:
    rows = landed(
        [record(VALID["environment_reading"], "environment_reading", offset=1)],
        [record(b"{", offset=2, headers=[("h", None)], key=None), record(VALID["sensor_reading"], offset=3)],
    )
    readings, refused = rows.readings, rows.refused
    assert [(row["kafka_offset"], row["metric"]) for row in readings] == [
        (1, "temperature"), (1, "humidity"), (1, "energy"), (3, "pressure"),
    ]  # fmt: skip
    assert readings[0]["event_date"] == date(2026, 11, 19)
    (row,) = refused
    assert (row["kafka_offset"], row["reason"], row["value"], row["key"]) == (2, "not_json", b"{", None)
    assert row["headers"] == [{"key": "h", "value": None}]
    assert row["event_date"] == date(2026, 11, 19)


def test_nothing_in_gives_nothing_out() -> None:
    assert (landed().rows, landed().summaries) == ({"bronze/readings": [], "bronze/quarantine": []}, [])


def test_every_row_carries_the_batchs_stamp() -> None:
    out = landed([record(VALID["sensor_reading"], offset=1), record(b"", offset=2)])
    began = EPOCH + timedelta(microseconds=STAMP.began_us)
    (reading,), (refused,) = out.readings, out.refused
    assert (reading["batch_id"], reading["ingest_seq"], reading["ingested_at"]) == (4, 77, began)
    assert (refused["batch_id"], refused["ingest_seq"], refused["quarantined_at"]) == (4, 77, began)
    assert refused["redriven_at"] is None


def test_the_summary_says_what_the_batch_brought() -> None:
    rows = landed([record(VALID["environment_reading"], "environment_reading"), record(b"", offset=9)])
    summary = BatchSummary.of(rows.summaries * 2)
    assert (summary.messages, summary.readings, summary.refused, summary.late) == (4, 6, 2, 0)
    assert summary.reading_dates == {"2026-11-19": 6}
    assert summary.refused_dates == {"2026-11-19": 2}
    assert summary.newest_by_partition == {"iot.environment-readings": {0: EVENT_US}}
    assert summary.newest_by_contract == {"environment_reading": EVENT_US}


def test_a_message_is_late_beyond_ten_minutes_behind_earlier_offsets() -> None:
    rows = landed([at(1, EVENT_US), at(2, EVENT_US - LATE_US), at(3, EVENT_US - LATE_US - 1_000), at(4, EVENT_US)])
    assert rows.late == [False, False, True, False]


def test_lateness_goes_on_from_the_batches_before() -> None:
    rules = BatchRules(RULES, newest={TOPIC: {0: EVENT_US + LATE_US + 1_000}})
    assert landed([at(5, EVENT_US)], rules=rules).late == [True]
    other = landed([at(5, EVENT_US, partition=1)], rules=rules)
    assert other.late == [False]


def test_one_fast_clock_makes_nobody_late() -> None:
    fast = ARRIVAL_US + 50 * MINUTE_US
    rows = landed([at(1, fast), at(2, EVENT_US)])
    assert rows.late == [False, False]
    assert rows.summary.newest_by_contract == {"sensor_reading": ARRIVAL_US}


def test_a_replayed_message_is_never_late() -> None:
    rows = landed([at(1, EVENT_US), at(2, EVENT_US - 10 * LATE_US, headers=[("replayed", b"true")])])
    assert rows.late == [False, False]


def test_each_table_drops_what_lies_below_its_own_end() -> None:
    rules = BatchRules(RULES, readings_from={TOPIC: {0: 3}}, refused_from={TOPIC: {0: 5}})
    records = [at(offset, EVENT_US) for offset in (1, 2, 3)] + [record(b"", offset=offset) for offset in (4, 5)]
    rows = landed(records, rules=rules)
    assert [row["kafka_offset"] for row in rows.readings] == [3]
    assert [row["kafka_offset"] for row in rows.refused] == [5]
    summary = rows.summary
    assert (summary.messages, summary.readings, summary.refused) == (2, 1, 1)


def test_records_out_of_order_stop_the_batch() -> None:
    with pytest.raises(DataError, match="came after"):
        landed([at(2, EVENT_US), at(1, EVENT_US)])


@settings(deadline=None, max_examples=50)
@given(
    minutes=st.lists(st.integers(-120, 50), min_size=1, max_size=20),
    cut=st.integers(0, 20),
    carried=st.none() | st.integers(-60, 60),
)
def test_a_batch_cut_anywhere_decides_the_same(minutes: list[int], cut: int, carried: int | None) -> None:
    newest = {} if carried is None else {TOPIC: {0: EVENT_US + carried * MINUTE_US}}
    records = [at(offset, EVENT_US + minute * MINUTE_US) for offset, minute in enumerate(minutes)]
    whole = landed(records, rules=BatchRules(RULES, newest=newest))
    first = landed(records[:cut], rules=BatchRules(RULES, newest=newest))
    reached = first.summary.newest_by_partition or newest
    second = landed(records[cut:], rules=BatchRules(RULES, newest=reached))
    assert first.readings + second.readings == whole.readings
