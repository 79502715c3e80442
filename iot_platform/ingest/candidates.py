"""Quarantined messages on their way to a second judgement: read from the table's files a few at a time, whole.

What belongs here: bounded reading. A file's payloads may be far larger than the memory: they are taken row by row, in pieces
sized by what the file says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.parse import KafkaRecord
from iot_platform.ingest.earlier import Place
from iot_platform.lake.lake import Lake
from iot_platform.lake.quarantine import QUARANTINE, Chosen
from iot_platform.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Wanted = Mapping[Place, NDArray[np.int64]]

OFFSETS_AT_ONCE = 2_000_000  # 16 bytes each
MOST_ROWS = 20_000  # of a chunk
MOST_BYTES = 32 << 20
COLUMNS = [
    "topic", "kafka_partition", "kafka_offset", "kafka_timestamp", "key", "value", "headers", "ingest_seq", "batch_id",
    "redriven_at",
]  # fmt: skip


class Candidate(NamedTuple):
    """A quarantined message and the batch that brought it."""

    record: KafkaRecord
    ingest_seq: int
    batch_id: int

    @property
    def place(self) -> Place:
        return self.record.topic, self.record.partition


def offsets_of(lake: Lake, quarantine: Snapshot, day: date, chosen: Chosen) -> Wanted:
    """The offsets of the chosen messages that arrived on this date (UTC), per topic and partition, ascending."""
    import numpy as np

    files = quarantine.files([day])
    if not files:
        return {}
    where, parameters = chosen.where
    # What was withheld when a device was erased can never be parsed again.
    sql = (
        f"select topic, kafka_partition, kafka_offset from ({select_files(quarantine.contract, files)})"
        f" where {where} and reason <> 'erased_device' order by all"
    )
    with lake.reading(QUARANTINE) as connection:
        found = connection.execute(sql, parameters).fetchnumpy()
    topics, partitions, offsets = (np.asarray(found[name]) for name in ("topic", "kafka_partition", "kafka_offset"))
    places: dict[Place, NDArray[np.int64]] = {}
    start = 0
    for end in [*(np.flatnonzero((topics[1:] != topics[:-1]) | (partitions[1:] != partitions[:-1])) + 1), len(topics)]:
        if start < end:
            places[str(topics[start]), int(partitions[start])] = np.asarray(offsets[start:end], np.int64)
        start = int(end)
    return places


def looked_at_once(lake: Lake, quarantine: Snapshot, chosen: Chosen) -> Iterator[dict[date, Wanted]]:
    """The offsets of the chosen messages by date of arrival, so many dates together that one look into Bronze, which reads
    most of it, serves them all, and their offsets still take little room."""
    held: dict[date, Wanted] = {}
    size = 0
    for day in sorted({file.day for file in quarantine.active if file.day and chosen.takes_day(file.day)}):
        if wanted := offsets_of(lake, quarantine, day, chosen):
            held[day] = wanted
            size += sum(map(len, wanted.values()))
        if size >= OFFSETS_AT_ONCE:
            yield held
            held, size = {}, 0
    if held:
        yield held


def together(dates: Iterable[Wanted]) -> Wanted:
    """The offsets of several dates, per topic and partition."""
    import numpy as np

    parts: dict[Place, list[NDArray[np.int64]]] = {}
    for wanted in dates:
        for place, offsets in wanted.items():
            parts.setdefault(place, []).append(offsets)
    return {place: np.concatenate(own) for place, own in parts.items()}


def chunks(
    lake: Lake, quarantine: Snapshot, day: date, wanted: Wanted
) -> Iterator[list[Candidate]]:
    """The wanted messages of a date in chunks of bounded size, each in the order of its partitions."""
    held: list[Candidate] = []
    size = 0
    for candidate in _candidates(lake, quarantine, day, wanted):
        held.append(candidate)
        size += len(candidate.record.value or b"")
        if len(held) >= MOST_ROWS or size >= MOST_BYTES:
            yield sorted(held, key=_position)
            held, size = [], 0
    if held:
        yield sorted(held, key=_position)


def _position(candidate: Candidate) -> tuple[str, int, int]:
    return candidate.record.topic, candidate.record.partition, candidate.record.offset


def _candidates(
    lake: Lake, quarantine: Snapshot, day: date, wanted: Wanted
) -> Iterator[Candidate]:
    for path in quarantine.files([day]):
        for batch in _batches(lake, path):
            yield from _wanted_of(batch, wanted)


def _batches(lake: Lake, path: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    filesystem, _ = lake.storage.filesystem()
    try:
        with pq.ParquetFile(path.removeprefix("s3://"), filesystem=filesystem, read_dictionary=["value"]) as file:
            yield from file.iter_batches(batch_size=_rows_at_once(file.metadata), columns=COLUMNS)
    except (OSError, pa.ArrowInvalid) as error:
        raise lake.corrupt(QUARANTINE, error) from None


def _rows_at_once(metadata: Any) -> int:
    """So many rows that their payloads are about ``MOST_BYTES``."""
    size = rows = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        size += group.total_byte_size
        rows += group.num_rows
    return max(1, min(MOST_ROWS, MOST_BYTES * rows // max(size, 1)))


def _wanted_of(batch: Any, wanted: Wanted) -> Iterator[Candidate]:
    import numpy as np

    topics = batch.column("topic").to_pylist()
    partitions = batch.column("kafka_partition").to_pylist()
    offsets = batch.column("kafka_offset").to_pylist()
    values = batch.column("value")
    for row, (topic, partition, offset) in enumerate(zip(topics, partitions, offsets, strict=True)):
        asked = wanted.get((topic, partition))
        if asked is None:
            continue
        at = int(np.searchsorted(asked, offset))
        if at == len(asked) or asked[at] != offset or batch.column("redriven_at")[row].is_valid:
            continue
        headers = [(one["key"], one["value"]) for one in batch.column("headers")[row].as_py() or ()]
        arrival = batch.column("kafka_timestamp")[row].value
        key, value = batch.column("key")[row].as_py(), values[row].as_py()
        record = KafkaRecord(topic, partition, offset, arrival, key, value, headers)
        yield Candidate(record, batch.column("ingest_seq")[row].as_py(), batch.column("batch_id")[row].as_py())
