"""What happens to one micro-batch: parsed once, then committed to Bronze and to quarantine, each exactly once.

The two commits come one after the other. Whatever dies in between, the repeated batch is skipped by the table that has
it (Delta's transaction of this generation and batch) and written by the one that has not. Whom a batch lets in is read when
it begins and holds for both; where that moves before the readings are committed, the batch is judged again (``admission``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.parse import ParseRules, fingerprint
from iot_platform.contracts.timestamps import EPOCH
from iot_platform.errors import LakeError
from iot_platform.failpoints import reach
from iot_platform.ingest.admission import InForce, judged_before, read_admission
from iot_platform.ingest.batch import BatchRules, BatchSummary, Stamp
from iot_platform.ingest.files import FILE, SUMMARY, DataFile, Writer
from iot_platform.ingest.generation import Start
from iot_platform.ingest.position import QUARANTINE, READINGS, Ends, Position, app_id, commit_metadata, raise_newest
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
        self._judged = list(start.position.judged)
        self._parsed_by = fingerprint(rules)
        by_others = start.position.parsed_by not in ("", self._parsed_by)
        self._landed_otherwise = landed_by_half(lake, start.position) if by_others else None
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
                "parsed_by": self._parsed_by,
            }  # fmt: skip
            reach("ingest.before_commits")
            try:
                for table, dates in ((READINGS, summary.reading_dates), (QUARANTINE, summary.refused_dates)):
                    own = [file for file in files if file.table == table]
                    self._commit(table, own, ranges, figures | {"rows_by_date": dates}, in_force)
                    landed = summary
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
        judged = judged_before(self._judged, in_force.erased)
        return BatchRules(
            self.rules, newest, self._ends[READINGS], self._ends[QUARANTINE], in_force.admission, judged, in_force.erased,
            self._landed_otherwise,
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
        judged = in_force.admission.as_json()
        # Others judged what quarantine does not have yet: where a batch landed by half, and its generation was lost.
        earlier = [one for one in self._judged if self._is_unsettled(one["until"])]
        admission = {"admission": judged, "earlier_admissions": earlier} if table == READINGS else {}
        metadata = commit_metadata(
            {
                **figures, **admission, "generation": self.generation, "offsets": covered, "ends": ends,
                "topic_ids": self.topic_ids, "newest_by_partition": self.position.newest_by_partition,
                "newest_by_contract": self.position.newest_by_contract,
            }
        )  # fmt: skip
        is_new = commit_once(
            self.lake, table, app_id(table, self.generation), figures["batch_id"], metadata=metadata, files=files,
            expect=in_force.expected[table],
        )  # fmt: skip
        self._ends[table] = ends
        if is_new and table == READINGS:
            self._judged = [*earlier, {"until": ends, **judged}]

    def _is_unsettled(self, until: Ends) -> bool:
        """Whether some of what lies below these offsets is not in quarantine's reach yet."""
        own = self._ends[QUARANTINE]
        return any(
            end > own.get(topic, {}).get(partition, 0) for topic, ends in until.items() for partition, end in ends.items()
        )


def landed_by_half(lake: Lake, position: Position) -> dict[tuple[str, int], frozenset[int]] | None:
    """The offsets that are among the readings, where quarantine does not have its part of their batch yet; None where every
    batch is in both tables. At most the offsets of one batch."""
    readings, quarantine = (position.tables[table].ends for table in (READINGS, QUARANTINE))
    open_from = {
        (topic, partition): quarantine.get(topic, {}).get(partition, 0)
        for topic, ends in readings.items()
        for partition, end in ends.items()
        if quarantine.get(topic, {}).get(partition, 0) < end
    }
    if not open_from:
        return None
    found: dict[tuple[str, int], set[int]] = {place: set() for place in open_from}
    snapshot = lake.snapshot(READINGS)
    source = select_files(snapshot.contract, snapshot.files())
    with lake.reading(READINGS) as connection:
        rows = connection.execute(
            f"select distinct topic, kafka_partition, kafka_offset from ({source}) where kafka_offset >= $lowest",
            {"lowest": min(open_from.values())},
        ).fetchall()
    for topic, partition, offset in rows:
        if offset >= open_from.get((topic, partition), offset + 1):
            found[topic, partition].add(offset)
    return {place: frozenset(offsets) for place, offsets in found.items()}


def merged(ends: Mapping[str, Mapping[int, int]], ranges: Ranges) -> Ends:
    """The table's ends after a batch that covers these ranges."""
    result: Ends = {topic: dict(partitions) for topic, partitions in ends.items()}
    for topic, spans in ranges.items():
        own = result.setdefault(topic, {})
        for partition, (_, until) in spans.items():
            own[partition] = max(until, own.get(partition, until))
    return result
