"""What happens to one micro-batch: parsed once, then committed to Bronze and to quarantine, each exactly once.

The two commits come one after the other. Whatever dies in between, the repeated batch is skipped by the table that has
it (Delta's transaction of this generation and batch) and written by the one that has not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from iot_platform.contracts.parse import ParseRules
from iot_platform.contracts.timestamps import EPOCH
from iot_platform.failpoints import reach
from iot_platform.ingest.batch import BatchRules, BatchSummary, Stamp
from iot_platform.ingest.files import FILE, SUMMARY, DataFile, Writer
from iot_platform.ingest.generation import Start
from iot_platform.ingest.position import QUARANTINE, READINGS, Ends, app_id, commit_metadata, raise_newest
from iot_platform.ingest.transactions import commit_once
from iot_platform.lake.lake import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# One worker takes this many before a second one is worth its files.
OFFSETS_PER_WORKER = 50_000
Ranges = dict[str, dict[int, tuple[int, int]]]


@dataclass(frozen=True)
class BatchResult:
    """One micro-batch that is in both tables now; ``offsets`` are ``[from, until)`` per topic and partition."""

    batch_id: int
    messages: int
    readings: int
    quarantined: int
    late: int
    rows_by_date: dict[date, int]
    offsets: Ranges


class BronzeSink:
    """Takes the micro-batches of one generation. ``now`` gives the time (UTC)."""

    def __init__(
        self,
        lake: Lake,
        start: Start,
        topic_ids: Mapping[str, str],
        rules: ParseRules,
        *,
        now: Callable[[], datetime],
        on_batch: Callable[[BatchResult], None] | None = None,
    ) -> None:
        self.lake = lake
        self.checkpoint = start.checkpoint
        self.generation = start.generation
        self.position = start.position
        self.topic_ids = dict(topic_ids)
        self.rules = rules
        self.now = now
        self._on_batch = on_batch
        self._ends = {table: start.position.tables[table].ends for table in (READINGS, QUARANTINE)}

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Land one micro-batch; called by Spark, possibly again with the same id."""
        began = self.now()
        began_us = (began - EPOCH) // EPOCH.resolution
        stamp = Stamp(batch_id, max(began_us, self.position.ingest_seq + 1), began_us)
        ranges = self.checkpoint.range_of(batch_id)
        reach("ingest.before_files")
        files, summary = self._write(frame, ranges, stamp)
        reach("ingest.after_files")
        raise_newest(self.position, summary.newest_by_partition, summary.newest_by_contract)
        figures = {
            "batch_id": batch_id, "ingest_seq": stamp.ingest_seq, "messages": summary.messages,
            "readings": summary.readings, "quarantined": summary.refused,
        }  # fmt: skip
        reach("ingest.before_commits")
        for table, dates in ((READINGS, summary.reading_dates), (QUARANTINE, summary.refused_dates)):
            self._commit(table, [file for file in files if file.table == table], ranges, figures | {"rows_by_date": dates})
            reach(f"ingest.after_{table.partition('/')[2]}")
        self.position.ingest_seq = stamp.ingest_seq
        if self._on_batch:
            self._on_batch(
                BatchResult(
                    batch_id, summary.messages, summary.readings, summary.refused, summary.late,
                    {date.fromisoformat(day): count for day, count in summary.reading_dates.items()}, ranges,
                )
            )  # fmt: skip

    def _write(self, frame: DataFrame, ranges: Ranges, stamp: Stamp) -> tuple[list[DataFile], BatchSummary]:
        """Have the workers parse the batch and write its files; nothing is visible before the commits."""
        offsets = sum(until - start for spans in ranges.values() for start, until in spans.values())
        most = frame.sparkSession.sparkContext.defaultParallelism
        # Coalescing keeps each Kafka partition whole and in order, and gives a file a worker and date, not a partition.
        share = frame.coalesce(max(1, min(most, -(-offsets // OFFSETS_PER_WORKER))))
        writer = Writer(self.lake.storage, self._batch_rules(), stamp)
        results = share.mapInArrow(writer, "kind string, detail string").collect()  # pyright: ignore[reportArgumentType]
        files = [DataFile(**json.loads(row.detail)) for row in results if row.kind == FILE]
        return files, BatchSummary.of(row.detail for row in results if row.kind == SUMMARY)

    def _batch_rules(self) -> BatchRules:
        newest = {topic: dict(partitions) for topic, partitions in self.position.newest_by_partition.items()}
        return BatchRules(self.rules, newest, self._ends[READINGS], self._ends[QUARANTINE])

    def _commit(self, table: str, files: list[DataFile], ranges: Ranges, figures: Mapping[str, Any]) -> None:
        """Commit a batch to one table unless it has it, with all that the next one needs to know in the metadata.

        A batch without rows for this table still moves its end.
        """
        own = self._ends[table]
        covered = {
            topic: {
                partition: [first, until]
                for partition, (start, until) in spans.items()
                if (first := max(start, own.get(topic, {}).get(partition, 0))) < until
            }
            for topic, spans in ranges.items()
        }
        ends = merged(own, ranges)
        metadata = commit_metadata(
            {
                **figures, "generation": self.generation, "offsets": covered, "ends": ends,
                "topic_ids": self.topic_ids, "newest_by_partition": self.position.newest_by_partition,
                "newest_by_contract": self.position.newest_by_contract,
            }
        )  # fmt: skip
        commit_once(self.lake, table, app_id(table, self.generation), figures["batch_id"], metadata=metadata, files=files)
        self._ends[table] = ends


def merged(ends: Mapping[str, Mapping[int, int]], ranges: Ranges) -> Ends:
    """The table's ends after a batch that covers these ranges."""
    result: Ends = {topic: dict(partitions) for topic, partitions in ends.items()}
    for topic, spans in ranges.items():
        own = result.setdefault(topic, {})
        for partition, (_, until) in spans.items():
            own[partition] = max(until, own.get(partition, until))
    return result
