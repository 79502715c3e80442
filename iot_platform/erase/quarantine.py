"""A device's messages in quarantine: by its key, or because the raw bytes name it. Deleted by their coordinates.

A message that could not be parsed has no device; what it holds is looked through, value and headers, a few at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from iot_platform.contracts.duckdb import select_files
from iot_platform.erase.device_rows import Counts, ask, delete_where
from iot_platform.erase.trace import Trace
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import ERASED_MESSAGES, Snapshot

TABLE = "bronze/quarantine"
ROWS_AT_ONCE = 512  # a value may hold a megabyte
OFFSETS_A_COMMIT = 2_000


class Place(NamedTuple):
    """The coordinates of a message."""

    topic: str
    kafka_partition: int
    kafka_offset: int


def messages_of(lake: Lake, snapshot: Snapshot, trace: Trace) -> list[Place]:
    """The messages in quarantine that are the device's, or name it."""
    return [place for batch in _batches(lake, snapshot) for place in _found(batch, trace)]


def _batches(lake: Lake, snapshot: Snapshot) -> Iterator[pa.RecordBatch]:
    files = snapshot.files()
    if not files:
        return
    with lake.reading(TABLE) as connection:
        source = select_files(snapshot.contract, files)
        sql = f"select topic, kafka_partition, kafka_offset, key, value, headers, detail from ({source})"
        yield from connection.sql(sql).to_arrow_reader(ROWS_AT_ONCE)


def _found(batch: pa.RecordBatch, trace: Trace) -> Iterator[Place]:
    own = trace.device_id.encode("utf-8", "surrogatepass")
    for row in batch.to_pylist():
        headers = [piece for header in row["headers"] or () for piece in (header["key"], header["value"])]
        texts = [row["value"], row["key"], row["detail"], *headers]
        if row["key"] == own or any(trace.is_in(text) for text in texts):
            yield Place(row["topic"], row["kafka_partition"], row["kafka_offset"])


def erase_messages(lake: Lake, trace: Trace) -> int:
    """Delete them; how many there were. Raises ``LakeError`` when the table cannot be written."""
    found = sorted(messages_of(lake, lake.snapshot(TABLE), trace))
    for start in range(0, len(found), OFFSETS_A_COMMIT):
        _delete(lake, found[start : start + OFFSETS_A_COMMIT])
    return len(found)


def _delete(lake: Lake, places: Sequence[Place]) -> None:
    by_partition: dict[tuple[str, int], list[str]] = defaultdict(list)
    for place in places:
        by_partition[place.topic, place.kafka_partition].append(str(place.kafka_offset))
    predicate = " or ".join(
        f"(topic = '{topic}' and kafka_partition = {partition} and kafka_offset in ({', '.join(offsets)}))"
        for (topic, partition), offsets in by_partition.items()
    )

    def count(at: Snapshot) -> Counts:
        ((rows,),) = ask(lake, at, f"select count(*) from rows where {predicate}", []) or [(0,)]
        return {None: rows} if rows else {}

    def marks(at: Snapshot, held: Counts) -> dict[str, int]:
        return {ERASED_MESSAGES: (at.transaction(ERASED_MESSAGES) or 0) + sum(held.values())} if held else {}

    delete_where(lake, TABLE, predicate, count, marks)
