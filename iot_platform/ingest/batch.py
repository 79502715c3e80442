"""Kafka records in, rows of Bronze and quarantine out: one pass over Arrow batches, run by Spark's workers.

What belongs here: everything decided record by record. It is pure: the same records, ``BatchRules`` and ``Stamp`` give
the same rows, so a repeated micro-batch changes nothing. No Spark, no clock, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from iot_platform.contracts.arrow import ARROW_TYPES, arrow_schema
from iot_platform.contracts.fields import Reading
from iot_platform.contracts.parse import KafkaRecord, ParseRules, parse_record
from iot_platform.contracts.refusal import Refusal
from iot_platform.contracts.tables import BRONZE_QUARANTINE, BRONZE_READINGS, COORDINATES, Column, Kind, TableContract
from iot_platform.contracts.timestamps import DAY_US, EPOCH
from iot_platform.errors import DataError
from iot_platform.ingest.admission import ERASED, EVERYBODY, NOBODY, Admission, Judged, is_of_erased
from iot_platform.lake.tombstones import Tombstones

Place = tuple[str, int]  # topic and partition
PARSED_OTHERWISE = Refusal("unknown_contract", "refused by the contracts of before, which were mended since: redrive it")
LATE_US = 10 * 60 * 1_000_000
COORDINATE_NAMES = tuple(column.name for column in COORDINATES)
READING_NAMES = (*Reading._fields, "is_late", *COORDINATE_NAMES, "event_date")
REFUSED_NAMES = (*COORDINATE_NAMES, "event_date", "key", "value", "reason", "detail", "headers")
Offsets = Mapping[str, Mapping[int, int]]


@dataclass(frozen=True)
class Stamp:
    """What all rows of a batch have in common; ``began_us``: when the batch began, µs since the epoch."""

    batch_id: int
    ingest_seq: int
    began_us: int


class Landed(NamedTuple):
    """Rows for one of the two tables, in its columns and order."""

    table: TableContract
    rows: pa.RecordBatch


@dataclass(frozen=True)
class BatchRules:
    """What the rows of a batch depend on besides its records.

    ``newest``: how far event time had come per topic and partition before the batch (µs since the epoch).
    ``readings_from`` and ``refused_from``: where each table's own content ends; what lies below is already there.
    ``admission`` says who is let in. What lies below ``readings_from`` was judged before, by ``judged`` (oldest first; by
    none where that says nothing), and is judged by that again. ``erased``: whose payload is withheld, in any case.
    ``landed``: where the contracts were changed between the two commits of a batch, the offsets that are among the readings.
    """

    parse: ParseRules
    newest: Offsets = field(default_factory=dict)
    readings_from: Offsets = field(default_factory=dict)
    refused_from: Offsets = field(default_factory=dict)
    admission: Admission = EVERYBODY
    judged: tuple[Judged, ...] = ()
    erased: Tombstones = NOBODY
    landed: Mapping[Place, frozenset[int]] | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing but parsing decides."""
        return self.admission.is_open and not self.erased.hashes and all(one.admission.is_open for one in self.judged)

    def refusal(self, record: KafkaRecord, reading: Reading, *, is_judged: bool) -> Refusal | None:
        """Why a record that parses goes to quarantine all the same; ``is_judged``: it lies below ``readings_from``."""
        if not is_judged:
            return self.admission.refusal(reading)
        for one in self.judged:
            if record.offset < one.until.get(record.topic, {}).get(record.partition, 0):
                return one.admission.refusal(reading)
        return None


@dataclass
class PartitionState:
    """One Kafka partition within a batch: where its rows begin, how far its event time has come, what was counted.

    ``turned_away``: records from ``readings_from`` on that are no readings; with ``reading_messages`` all records there.
    """

    topic: str
    partition: int
    newest: int | None
    readings_from: int
    refused_from: int
    last_offset: int = -1
    reading_messages: int = 0
    readings: int = 0
    refused: int = 0
    turned_away: int = 0
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

    def count_readings(self, day: int, readings: int, is_late: bool) -> None:
        self.reading_messages += 1
        self.readings += readings
        self.late += is_late
        self.reading_dates[day] = self.reading_dates.get(day, 0) + readings

    def count_refused(self, day: int) -> None:
        self.refused += 1
        self.refused_dates[day] = self.refused_dates.get(day, 0) + 1

    def summary(self) -> str:
        return json.dumps(vars(self))


class Landing:
    """The records of one worker's share of a batch on their way to the tables."""

    def __init__(self, rules: BatchRules, stamp: Stamp) -> None:
        self.rules = rules
        self.stamp = stamp
        self._is_open = rules.is_open
        self._states: dict[tuple[str, int], PartitionState] = {}

    def land(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Landed]:
        """Parse Kafka's rows (as Spark's Kafka source gives them, with headers) into rows of the tables."""
        for batch in batches:
            readings: list[tuple[Any, ...]] = []
            refused: list[tuple[Any, ...]] = []
            for record in _records(batch):
                self._land_one(record, readings, refused)
            if readings:
                yield Landed(BRONZE_READINGS, self._rows(BRONZE_READINGS, READING_NAMES, readings))
            if refused:
                yield Landed(BRONZE_QUARANTINE, self._rows(BRONZE_QUARANTINE, REFUSED_NAMES, refused))

    def summaries(self) -> list[str]:
        """What was landed, a text for each Kafka partition: see ``BatchSummary``."""
        return [state.summary() for state in self._states.values()]

    def _land_one(
        self, record: KafkaRecord, readings: list[tuple[Any, ...]], refused: list[tuple[Any, ...]]
    ) -> None:
        source = record.topic, record.partition
        state = self._states.get(source)
        if state is None:
            state = self._states[source] = PartitionState.of(*source, self.rules)
        state.advance(record.offset)
        parsed = parse_record(record, self.rules.parse)
        arrival = record.timestamp_us
        coordinates = record.topic, record.partition, record.offset, arrival
        if self.rules.landed is not None and state.refused_from <= record.offset < state.readings_from:
            parsed = as_before(parsed, record.offset in self.rules.landed.get(source, ()))
            if parsed is None:
                return
        is_late = False
        if isinstance(parsed, list):
            # Lateness counts whoever is let in: it must not change when a record is judged again.
            is_late = state.judge_lateness(parsed[0], arrival)
        if not self._is_open:
            parsed = self._admitted(record, parsed, is_judged=record.offset < state.readings_from)
        if isinstance(parsed, list):
            if record.offset >= state.readings_from:
                day = parsed[0].event_time // DAY_US
                state.count_readings(day, len(parsed), is_late)
                tail = (is_late, *coordinates, day)
                readings.extend([reading + tail for reading in parsed])
            return
        state.turned_away += record.offset >= state.readings_from
        if record.offset >= state.refused_from:
            day = arrival // DAY_US
            state.count_refused(day)
            if parsed is ERASED:
                refused.append((*coordinates, day, None, None, parsed.reason, parsed.detail, []))
                return
            headers = [{"key": key, "value": value} for key, value in record.headers]
            refused.append((*coordinates, day, record.key, record.value, parsed.reason, parsed.detail, headers))

    def _admitted(
        self, record: KafkaRecord, parsed: list[Reading] | Refusal, *, is_judged: bool
    ) -> list[Reading] | Refusal:
        """What parsed, if it is let in, or why not; nothing of an erased device is kept, whatever it is refused for."""
        if not isinstance(parsed, list):
            return ERASED if is_of_erased(record, self.rules.erased) else parsed
        refused = self.rules.refusal(record, parsed[0], is_judged=is_judged)
        if refused is None:
            return parsed
        return ERASED if self.rules.erased.holds(parsed[0].device_id) else refused

    def _rows(self, table: TableContract, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
        same = {
            "batch_id": self.stamp.batch_id, "ingest_seq": self.stamp.ingest_seq,
            "ingested_at": self.stamp.began_us, "quarantined_at": self.stamp.began_us, "redriven_at": None,
        }  # fmt: skip
        return rows_of(table, names, rows, same)


def as_before(parsed: list[Reading] | Refusal, is_there: bool) -> list[Reading] | Refusal | None:
    """What becomes of a record whose readings' commit was made under other contracts, for the commit to quarantine: nothing
    where it is among the readings, else it is refused, whatever today's contracts say of it. A redrive takes it."""
    if is_there:
        return None
    return parsed if isinstance(parsed, Refusal) else PARSED_OTHERWISE


def rows_of(
    table: TableContract, names: Sequence[str], rows: Sequence[tuple[Any, ...]], same: Mapping[str, int | None]
) -> pa.RecordBatch:
    """Rows of a table from tuples in the order of ``names``; what all have in common is in ``same``. Times are µs, and dates
    days, since the epoch."""
    given = dict(zip(names, zip(*rows, strict=True), strict=True))
    columns = [
        _array(column, given[column.name]) if column.name in given else _constant(column, same[column.name], len(rows))
        for column in table.columns
    ]
    return pa.record_batch(columns, schema=arrow_schema(table))


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


# Times and dates come as numbers since the epoch.
_NUMBERS: dict[Kind, pa.DataType] = {Kind.TIMESTAMP: pa.int64(), Kind.DATE: pa.int32()}


def _array(column: Column, values: Any) -> pa.Array:
    target = ARROW_TYPES[column.kind]
    number = _NUMBERS.get(column.kind)
    return pa.array(values, target) if number is None else pa.array(values, number).cast(target)


def _constant(column: Column, value: int | None, count: int) -> pa.Array:
    target = ARROW_TYPES[column.kind]
    if value is None:
        return pa.nulls(count, target)
    return pa.repeat(pa.scalar(value, _NUMBERS.get(column.kind, target)), count).cast(target)


@dataclass
class BatchSummary:
    """What a micro-batch brought, over all its partitions. Dates are days since 1970-01-01 as ISO text.

    ``records``: all that Kafka held of the offsets that are new to the readings' table, whichever table took them;
    ``messages``: those that were landed now, in either table.
    """

    messages: int = 0
    records: int = 0
    readings: int = 0
    refused: int = 0
    late: int = 0
    reading_dates: dict[str, int] = field(default_factory=dict)
    refused_dates: dict[str, int] = field(default_factory=dict)
    newest_by_partition: dict[str, dict[int, int]] = field(default_factory=dict)
    newest_by_contract: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str]) -> BatchSummary:
        """Add up the summaries of a batch; a partition may come in several."""
        total = cls()
        for text in texts:
            part = json.loads(text)
            total.messages += part["reading_messages"] + part["refused"]
            total.records += part["reading_messages"] + part["turned_away"]
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
