"""Kafka records in, rows of Bronze and quarantine out: one pass over Arrow batches, run by Spark's workers.

What belongs here: everything decided record by record. It is pure: the same records, ``BatchRules`` and ``Stamp`` give
the same rows, so a repeated micro-batch changes nothing. No Spark, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from iot_platform.contracts.arrow import ARROW_TYPES, arrow_schema
from iot_platform.contracts.fields import Reading
from iot_platform.contracts.parse import KafkaRecord, ParseRules, parse_record
from iot_platform.contracts.refusal import Refusal
from iot_platform.contracts.tables import BRONZE_QUARANTINE, BRONZE_READINGS, COORDINATES, Column, Kind, TableContract
from iot_platform.contracts.timestamps import DAY_US
from iot_platform.ingest.admission import ERASED, EVERYBODY, NOBODY, Admission, is_of_erased
from iot_platform.ingest.summary import PartitionState
from iot_platform.ingest.turned_away import NOTHING, Offsets, TurnedAway
from iot_platform.lake.tombstones import Tombstones

JUDGED_OTHERWISE = "refused by what was in force when it came, which changed before it was written down"
COORDINATE_NAMES = tuple(column.name for column in COORDINATES)
READING_NAMES = (*Reading._fields, "is_late", *COORDINATE_NAMES, "event_date")
REFUSED_NAMES = (*COORDINATE_NAMES, "event_date", "key", "value", "reason", "detail", "headers")


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
    ``turned_away``: what became of the records that only the readings' table has passed; no other judgement counts for them.
    ``admission`` says who of the others is let in. ``erased``: whose payload is withheld, in any case.
    """

    parse: ParseRules
    newest: Offsets = field(default_factory=dict)
    readings_from: Offsets = field(default_factory=dict)
    refused_from: Offsets = field(default_factory=dict)
    turned_away: TurnedAway = NOTHING
    admission: Admission = EVERYBODY
    erased: Tombstones = NOBODY

    @property
    def is_open(self) -> bool:
        """Whether nothing but parsing decides."""
        return self.admission.is_open and not self.erased.hashes


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
            state = self._states[source] = self._begin(*source)
        state.advance(record.offset)
        parsed = parse_record(record, self.rules.parse)
        arrival = record.timestamp_us
        is_new = record.offset >= state.readings_from
        if not is_new and self.rules.turned_away.is_told(source, record.offset):
            if record.offset >= state.refused_from and (refusal := self._refused_before(record, parsed)):
                self._refuse(state, record, refusal, refused)
            return
        is_late = False
        if isinstance(parsed, list):
            # Lateness counts whoever is let in: it must not change when a record is judged again.
            is_late = state.judge_lateness(parsed[0], arrival)
        if not self._is_open:
            parsed = self._admitted(record, parsed, is_new=is_new)
        if isinstance(parsed, list):
            if is_new:
                day = parsed[0].event_time // DAY_US
                state.count_readings(day, len(parsed), is_late)
                tail = (is_late, record.topic, record.partition, record.offset, arrival, day)
                readings.extend([reading + tail for reading in parsed])
            return
        if is_new:
            state.turn_away(record.offset, parsed.reason)
        if record.offset >= state.refused_from:
            self._refuse(state, record, parsed, refused)

    def _begin(self, topic: str, partition: int) -> PartitionState:
        newest, readings_from, refused_from = (
            ends.get(topic, {}).get(partition)
            for ends in (self.rules.newest, self.rules.readings_from, self.rules.refused_from)
        )
        return PartitionState(topic, partition, newest, readings_from or 0, refused_from or 0)

    def _refuse(
        self, state: PartitionState, record: KafkaRecord, refusal: Refusal, refused: list[tuple[Any, ...]]
    ) -> None:
        """A row of quarantine, whole; of an erased device nothing is kept."""
        day = record.timestamp_us // DAY_US
        state.count_refused(day)
        place = record.topic, record.partition, record.offset, record.timestamp_us, day
        if refusal is ERASED:
            refused.append((*place, None, None, refusal.reason, refusal.detail, []))
            return
        headers = [{"key": key, "value": value} for key, value in record.headers]
        refused.append((*place, record.key, record.value, refusal.reason, refusal.detail, headers))

    def _refused_before(self, record: KafkaRecord, parsed: list[Reading] | Refusal) -> Refusal | None:
        """What was said of a record when the readings of its batch were committed, whatever would be said today; None: it
        became readings, be they there still or erased since."""
        reason = self.rules.turned_away.reason((record.topic, record.partition), record.offset)
        if reason is None:
            return None
        if reason == ERASED.reason or self._is_erased(record, parsed):
            return ERASED
        today = parsed if isinstance(parsed, Refusal) else self.rules.admission.refusal(parsed[0])
        return today if today is not None and today.reason == reason else Refusal(reason, JUDGED_OTHERWISE)

    def _is_erased(self, record: KafkaRecord, parsed: list[Reading] | Refusal) -> bool:
        if isinstance(parsed, list):
            return self.rules.erased.holds(parsed[0].device_id)
        return is_of_erased(record, self.rules.erased)

    def _admitted(
        self, record: KafkaRecord, parsed: list[Reading] | Refusal, *, is_new: bool
    ) -> list[Reading] | Refusal:
        """What parsed, if it is let in, or why not; nothing of an erased device is kept, whatever it is refused for.

        What was landed before, and nobody tells how, is judged by the parser alone.
        """
        refusal = parsed if isinstance(parsed, Refusal) else self.rules.admission.refusal(parsed[0]) if is_new else None
        if refusal is None:
            return parsed
        return ERASED if self._is_erased(record, parsed) else refusal

    def _rows(self, table: TableContract, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
        same = {
            "batch_id": self.stamp.batch_id, "ingest_seq": self.stamp.ingest_seq,
            "ingested_at": self.stamp.began_us, "quarantined_at": self.stamp.began_us, "redriven_at": None,
        }  # fmt: skip
        return rows_of(table, names, rows, same)


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
