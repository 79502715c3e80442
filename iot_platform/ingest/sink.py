"""What happens to one micro-batch: parsed once, then committed to Bronze and to quarantine, each exactly once.

The two commits come one after the other. Whatever dies in between, the repeated batch is skipped by the table that has
it (Delta's transaction of this generation and batch) and written by the one that has not. Whom a batch lets in is read when
it begins and holds for both; where that moves before the readings are committed, the batch is judged again (``admission``).
The readings' commit names what it turned away, and quarantine gets exactly that, whatever has changed by then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from iot_platform.contracts.parse import ParseRules
from iot_platform.contracts.timestamps import EPOCH
from iot_platform.errors import LakeError
from iot_platform.failpoints import reach
from iot_platform.ingest.admission import InForce, read_admission
from iot_platform.ingest.batch import BatchRules, Stamp
from iot_platform.ingest.files import FILE, SUMMARY, DataFile, Writer
from iot_platform.ingest.generation import Start
from iot_platform.ingest.position import QUARANTINE, READINGS, Ends, app_id, commit_metadata, raise_newest
from iot_platform.ingest.summary import BatchSummary
from iot_platform.ingest.transactions import ExpectedMoved, commit_once
from iot_platform.lake.lake import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# One worker takes this many before a second one is worth its files.
OFFSETS_PER_WORKER = 50_000
JUDGEMENTS = 20  # of one batch; dates are closed once a night
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
    """Takes the micro-batches of one generation. ``now`` gives the time (UTC).

    ``verify`` is called when a batch was read and nothing of it is committed; what it raises stops the stream.
    """

    def __init__(
        self,
        lake: Lake,
        start: Start,
        topic_ids: Mapping[str, str],
        rules: ParseRules,
        *,
        now: Callable[[], datetime],
        on_batch: Callable[[BatchResult], None] | None = None,
        verify: Callable[[], None] = lambda: None,
    ) -> None:
        self.lake = lake
        self.checkpoint = start.checkpoint
        self.generation = start.generation
        self.position = start.position
        self.topic_ids = dict(topic_ids)
        self.rules = rules
        self.now = now
        self._on_batch = on_batch
        self._verify = verify
        self._turned_away = start.position.turned_away
        self._ends = {table: start.position.tables[table].ends for table in (READINGS, QUARANTINE)}

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Land one micro-batch; called by Spark, possibly again with the same id."""
        began = self.now()
        began_us = (began - EPOCH) // EPOCH.resolution
        stamp = Stamp(batch_id, max(began_us, self.position.ingest_seq + 1), began_us)
        ranges = self.checkpoint.range_of(batch_id)
        newest = {topic: dict(partitions) for topic, partitions in self.position.newest_by_partition.items()}
        summary = self._land(frame, ranges, stamp, newest)
        self.position.ingest_seq = stamp.ingest_seq
        if self._on_batch:
            self._on_batch(
                BatchResult(
                    batch_id, summary.messages, summary.readings, summary.refused, summary.late,
                    {date.fromisoformat(day): count for day, count in summary.reading_dates.items()}, ranges,
                )
            )  # fmt: skip

    def _land(self, frame: DataFrame, ranges: Ranges, stamp: Stamp, newest: Ends) -> BatchSummary:
        """Judge, write and commit the batch; again where the admission moved before both tables had it."""
        landed: BatchSummary | None = None  # what was told when its readings were committed
        for _ in range(JUDGEMENTS):
            in_force = read_admission(self.lake)
            reach("ingest.before_files")
            files, found = self._write(frame, ranges, stamp, self._batch_rules(newest, in_force))
            reach("ingest.after_files")
            self._verify()
            summary = landed or found
            raise_newest(self.position, summary.newest_by_partition, summary.newest_by_contract)
            figures = {
                "batch_id": stamp.batch_id, "ingest_seq": stamp.ingest_seq, "messages": summary.messages,
                "records": summary.records, "readings": summary.readings, "quarantined": summary.refused,
            }  # fmt: skip
            # With what others turned away and quarantine does not have: a batch landed by half, its generation was lost.
            turned_away = self._turned_away.then(found.turned_away, self._ends[QUARANTINE])
            of_table = {
                READINGS: {"rows_by_date": summary.reading_dates, "turned_away": turned_away.as_json()},
                QUARANTINE: {"rows_by_date": summary.refused_dates},
            }
            reach("ingest.before_commits")
            try:
                for table, own in of_table.items():
                    self._commit(table, [file for file in files if file.table == table], ranges, figures | own, in_force)
                    landed, self._turned_away = summary, turned_away
                    reach(f"ingest.after_{table.partition('/')[2]}")
            except ExpectedMoved:
                continue
            return summary
        raise LakeError("dates are being closed or devices erased all the time", "Run it again when that is done")

    def _write(
        self, frame: DataFrame, ranges: Ranges, stamp: Stamp, rules: BatchRules
    ) -> tuple[list[DataFile], BatchSummary]:
        """Have the workers parse the batch and write its files; nothing is visible before the commits."""
        offsets = sum(until - start for spans in ranges.values() for start, until in spans.values())
        most = frame.sparkSession.sparkContext.defaultParallelism
        # Coalescing keeps each Kafka partition whole and in order, and gives a file a worker and date, not a partition.
        share = frame.coalesce(max(1, min(most, -(-offsets // OFFSETS_PER_WORKER))))
        writer = Writer(self.lake.storage, rules, stamp)
        results = share.mapInArrow(writer, "kind string, detail string").collect()  # pyright: ignore[reportArgumentType]
        files = [DataFile(**json.loads(row.detail)) for row in results if row.kind == FILE]
        return files, BatchSummary.of(row.detail for row in results if row.kind == SUMMARY)

    def _batch_rules(self, newest: Ends, in_force: InForce) -> BatchRules:
        return BatchRules(
            self.rules, newest, self._ends[READINGS], self._ends[QUARANTINE], self._turned_away, in_force.admission,
            in_force.erased,
        )  # fmt: skip

    def _commit(
        self, table: str, files: list[DataFile], ranges: Ranges, figures: Mapping[str, Any], in_force: InForce
    ) -> None:
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
        commit_once(
            self.lake, table, app_id(table, self.generation), figures["batch_id"], metadata=metadata, files=files,
            expect=in_force.expected[table],
        )  # fmt: skip
        self._ends[table] = ends


def merged(ends: Mapping[str, Mapping[int, int]], ranges: Ranges) -> Ends:
    """The table's ends after a batch that covers these ranges."""
    result: Ends = {topic: dict(partitions) for topic, partitions in ends.items()}
    for topic, spans in ranges.items():
        own = result.setdefault(topic, {})
        for partition, (_, until) in spans.items():
            own[partition] = max(until, own.get(partition, until))
    return result
