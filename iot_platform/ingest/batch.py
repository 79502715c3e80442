"""Kafka records in, rows of Bronze and quarantine out: one pass over Arrow batches, run by Spark's workers.

What belongs here: everything decided record by record. It is pure: the same records and ``BatchRules`` give the same
rows, so a repeated micro-batch changes nothing. No Spark, no clock, no I/O.

The rows of both tables leave in one stream, told apart by ``kind``, and the last row of a partition is its summary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa

from iot_platform.contracts.arrow import ARROW_TYPES, arrow_field
from iot_platform.contracts.fields import Reading
from iot_platform.contracts.parse import KafkaRecord, ParseRules, parse_record
from iot_platform.contracts.tables import BRONZE_QUARANTINE, BRONZE_READINGS, COORDINATES, Column, Kind
from iot_platform.contracts.timestamps import DAY_US, EPOCH
from iot_platform.errors import DataError

READING, REFUSED, SUMMARY = 0, 1, 2
LATE_US = 10 * 60 * 1_000_000

_EVENT_DATE = BRONZE_READINGS.column("event_date")
_IS_LATE = BRONZE_READINGS.column("is_late")
_REFUSAL = (
    BRONZE_QUARANTINE.column("key"),
    Column("raw_value", Kind.BINARY, "the message's value; `value` is the reading's"),
    BRONZE_QUARANTINE.column("headers"),
    BRONZE_QUARANTINE.column("reason"),
    BRONZE_QUARANTINE.column("detail"),
)
_READING = tuple(BRONZE_READINGS.column(name) for name in Reading._fields)
# What a worker gives back: the columns of a reading, of a refusal, and what both have.
LANDED: tuple[Column, ...] = (
    Column("kind", Kind.INT, "0 a reading, 1 a refused message, 2 the summary of a partition"),
    *_READING, _IS_LATE, *COORDINATES, _EVENT_DATE, *_REFUSAL,
)  # fmt: skip
LANDED_SCHEMA = pa.schema([arrow_field(column) for column in LANDED])
_READING_COLUMNS = (*_READING, _IS_LATE, *COORDINATES, _EVENT_DATE)
_REFUSED_COLUMNS = (*COORDINATES, _EVENT_DATE, *_REFUSAL)

Offsets = Mapping[str, Mapping[int, int]]


@dataclass(frozen=True)
class BatchRules:
    """What the rows of a batch depend on besides its records.

    ``newest``: how far event time had come per topic and partition before the batch (µs since the epoch).
    ``readings_from`` and ``refused_from``: where each table's own content ends; what lies below is already there.
    """

    parse: ParseRules
    newest: Offsets = field(default_factory=dict)
    readings_from: Offsets = field(default_factory=dict)
    refused_from: Offsets = field(default_factory=dict)


@dataclass
class PartitionState:
    """One Kafka partition within a batch: where its rows begin, how far its event time has come, what was counted."""

    topic: str
    partition: int
    newest: int | None
    readings_from: int
    refused_from: int
    last_offset: int = -1
    reading_messages: int = 0
    readings: int = 0
    refused: int = 0
    late: int = 0
    newest_by_contract: dict[str, int] = field(default_factory=dict)
    reading_dates: dict[int, int] = field(default_factory=dict)
    refused_dates: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, topic: str, partition: int, rules: BatchRules) -> PartitionState:
        return cls(
            topic,
            partition,
            rules.newest.get(topic, {}).get(partition),
            rules.readings_from.get(topic, {}).get(partition, 0),
            rules.refused_from.get(topic, {}).get(partition, 0),
        )

    def advance(self, offset: int) -> None:
        """Lateness counts from earlier offsets, so records must come in their order."""
        if offset <= self.last_offset:
            raise DataError(
                f"{self.topic}/{self.partition}: offset {offset} came after {self.last_offset}",
                "The batch was not taken; a Kafka partition must be read by one task, in order",
            )
        self.last_offset = offset

    def judge_lateness(self, reading: Reading, arrival_us: int) -> bool:
        """Whether the message is late, judged by earlier offsets; then it counts for the later ones."""
        is_late = not reading.replayed and self.newest is not None and reading.event_time < self.newest - LATE_US
        reached = min(reading.event_time, arrival_us)
        if self.newest is None or reached > self.newest:
            self.newest = reached
        if reached > self.newest_by_contract.get(reading.contract, reached - 1):
            self.newest_by_contract[reading.contract] = reached
        return is_late

    def summary(self) -> str:
        return json.dumps(vars(self))


def land(batches: Iterable[pa.RecordBatch], rules: BatchRules) -> Iterator[pa.RecordBatch]:
    """Parse Kafka's rows (as Spark's Kafka source gives them, with headers) into rows of ``LANDED``."""
    states: dict[tuple[str, int], PartitionState] = {}
    for batch in batches:
        readings: list[tuple[Any, ...]] = []
        refused: list[tuple[Any, ...]] = []
        positions: list[int] = []
        for position, record in enumerate(_records(batch)):
            source = record.topic, record.partition
            state = states.get(source) or states.setdefault(source, PartitionState.of(*source, rules))
            state.advance(record.offset)
            if not _land_one(record, state, rules, readings, refused):
                positions.append(position)
        if readings:
            yield _batch(READING, _READING_COLUMNS, list(zip(*readings, strict=True)))
        if refused:
            columns = list(zip(*refused, strict=True))
            columns.insert(-2, batch.column("headers").take(pa.array(positions, pa.int64())))
            yield _batch(REFUSED, _REFUSED_COLUMNS, columns)
    if states:
        yield _batch(SUMMARY, (_REFUSAL[-1],), [tuple(state.summary() for state in states.values())])


def _land_one(
    record: KafkaRecord,
    state: PartitionState,
    rules: BatchRules,
    readings: list[tuple[Any, ...]],
    refused: list[tuple[Any, ...]],
) -> bool:
    """Append the record's rows; False when it went to the refused ones."""
    parsed = parse_record(record, rules.parse)
    arrival = record.timestamp_us
    coordinates = record.topic, record.partition, record.offset, arrival
    if isinstance(parsed, list):
        is_late = state.judge_lateness(parsed[0], arrival)
        if record.offset < state.readings_from:
            return True
        day = parsed[0].event_time // DAY_US
        state.reading_messages += 1
        state.readings += len(parsed)
        state.late += is_late
        state.reading_dates[day] = state.reading_dates.get(day, 0) + len(parsed)
        tail = (is_late, *coordinates, day)
        readings.extend([reading + tail for reading in parsed])
        return True
    if record.offset < state.refused_from:
        return True
    day = arrival // DAY_US
    state.refused += 1
    state.refused_dates[day] = state.refused_dates.get(day, 0) + 1
    refused.append((*coordinates, day, record.key, record.value, parsed.reason, parsed.detail))
    return False


def _records(batch: pa.RecordBatch) -> Iterator[KafkaRecord]:
    moments = batch.column("timestamp").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    columns = [batch.column(name).to_pylist() for name in ("topic", "partition", "offset")]
    payload = [batch.column(name).to_pylist() for name in ("key", "value")]
    return map(KafkaRecord, *columns, moments.to_pylist(), *payload, _headers(batch.column("headers")))


def _headers(column: Any) -> Iterator[list[tuple[str, bytes | None]]]:
    """The headers of each record. Flat lists are cut, since one dict a header would cost more than the parsing."""
    entries = column.flatten()
    pairs = list(zip(entries.field("key").to_pylist(), entries.field("value").to_pylist(), strict=True))
    end = 0
    for length in column.value_lengths().to_pylist():
        start, end = end, end + (length or 0)
        yield pairs[start:end]


def _batch(kind: int, columns: tuple[Column, ...], values: list[Any]) -> pa.RecordBatch:
    count = len(values[0])
    given = {column.name: _array(column, column_values) for column, column_values in zip(columns, values, strict=True)}
    given["kind"] = pa.array([kind], pa.int32()).take(pa.array([0] * count, pa.int64()))
    return pa.record_batch(
        [given[name] if (name := column.name) in given else pa.nulls(count, ARROW_TYPES[column.kind]) for column in LANDED],
        schema=LANDED_SCHEMA,
    )


def _array(column: Column, values: Any) -> pa.Array:
    if isinstance(values, pa.Array):
        return values.cast(ARROW_TYPES[column.kind])
    if column.kind is Kind.TIMESTAMP:
        return pa.array(values, pa.int64()).cast(ARROW_TYPES[column.kind])
    if column.kind is Kind.DATE:
        return pa.array(values, pa.int32()).cast(ARROW_TYPES[column.kind])
    return pa.array(values, ARROW_TYPES[column.kind])


@dataclass
class BatchSummary:
    """What a micro-batch brought, over all its partitions. Dates are days since 1970-01-01 as ISO text."""

    messages: int = 0
    readings: int = 0
    refused: int = 0
    late: int = 0
    reading_dates: dict[str, int] = field(default_factory=dict)
    refused_dates: dict[str, int] = field(default_factory=dict)
    newest_by_partition: dict[str, dict[int, int]] = field(default_factory=dict)
    newest_by_contract: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str]) -> BatchSummary:
        """Add up the summaries that ``land`` gave; a partition may come in several."""
        total = cls()
        for text in texts:
            part = json.loads(text)
            total.messages += part["reading_messages"] + part["refused"]
            total.readings += part["readings"]
            total.refused += part["refused"]
            total.late += part["late"]
            _add_dates(total.reading_dates, part["reading_dates"])
            _add_dates(total.refused_dates, part["refused_dates"])
            if part["newest"] is not None:
                newest = total.newest_by_partition.setdefault(part["topic"], {})
                newest[part["partition"]] = max(part["newest"], newest.get(part["partition"], part["newest"]))
            for contract, reached in part["newest_by_contract"].items():
                total.newest_by_contract[contract] = max(reached, total.newest_by_contract.get(contract, reached))
        return total


def _add_dates(total: dict[str, int], part: Mapping[str, int]) -> None:
    for day, count in part.items():
        iso = (EPOCH + timedelta(days=int(day))).date().isoformat()
        total[iso] = total.get(iso, 0) + count
