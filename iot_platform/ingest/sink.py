"""What happens to one micro-batch: parsed once, then committed to Bronze and to quarantine, each exactly once.

The two commits come one after the other. Whatever dies in between, the repeated batch is skipped by the table that has
it (Delta's transaction of this generation and batch) and written by the one that has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from iot_platform.contracts.parse import ParseRules
from iot_platform.contracts.tables import TABLES as CONTRACTS
from iot_platform.contracts.tables import TableContract
from iot_platform.contracts.timestamps import EPOCH
from iot_platform.ingest.batch import LANDED, READING, REFUSED, SUMMARY, BatchRules, BatchSummary, land
from iot_platform.ingest.generation import Start
from iot_platform.ingest.position import (
    QUARANTINE,
    READINGS,
    Ends,
    app_id,
    commit_metadata,
    raise_newest,
)
from iot_platform.ingest.transactions import commit_transaction
from iot_platform.lake.lake import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# One file a core and date is enough; below this it is one file a date.
ROWS_PER_WRITER = 200_000
COMMIT_ATTEMPTS = 5
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
    """Takes the micro-batches of one generation. ``now`` gives the time (UTC), ``on_step`` is told of each commit."""

    def __init__(
        self,
        lake: Lake,
        start: Start,
        topic_ids: Mapping[str, str],
        rules: ParseRules,
        *,
        now: Callable[[], datetime],
        on_batch: Callable[[BatchResult], None] | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self.lake = lake
        self.checkpoint = start.checkpoint
        self.generation = start.generation
        self.position = start.position
        self.topic_ids = dict(topic_ids)
        self.rules = rules
        self.now = now
        self._on_batch = on_batch
        self._on_step = on_step or (lambda _: None)
        self._ends = {table: start.position.tables[table].ends for table in (READINGS, QUARANTINE)}

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Land one micro-batch; called by Spark, possibly again with the same id."""
        from pyspark import StorageLevel
        from pyspark.sql import functions as f

        began = self.now()
        seq = max((began - EPOCH) // EPOCH.resolution, self.position.ingest_seq + 1)
        ranges = self.checkpoint.range_of(batch_id)
        landed = frame.mapInArrow(partial(land, rules=self._batch_rules()), landed_type())  # pyright: ignore[reportArgumentType]
        landed = landed.persist(StorageLevel.MEMORY_AND_DISK)
        try:
            texts = landed.where(f.col("kind") == SUMMARY).select("detail").collect()
            summary = BatchSummary.of(row[0] for row in texts)
            raise_newest(self.position, summary.newest_by_partition, summary.newest_by_contract)
            stamps = {"ingest_seq": f.lit(seq), "batch_id": f.lit(batch_id).cast("bigint")}
            readings = landed.where(f.col("kind") == READING).withColumns(stamps | {"ingested_at": f.lit(began)})
            refused = (
                landed.where(f.col("kind") == REFUSED)
                .drop("value")
                .withColumnRenamed("raw_value", "value")
                .withColumns(stamps | {"quarantined_at": f.lit(began), "redriven_at": f.lit(None).cast("timestamp")})
            )
            figures = {
                "batch_id": batch_id, "ingest_seq": seq, "messages": summary.messages, "readings": summary.readings,
                "quarantined": summary.refused,
            }  # fmt: skip
            self._on_step("before_commits")
            for table, rows, dates in (
                (READINGS, readings, summary.reading_dates),
                (QUARANTINE, refused, summary.refused_dates),
            ):
                self._commit(table, rows, dates, ranges, figures)
                self._on_step(f"after_{table}")
        finally:
            landed.unpersist()
        self.position.ingest_seq = seq
        if self._on_batch:
            self._on_batch(
                BatchResult(
                    batch_id, summary.messages, summary.readings, summary.refused, summary.late,
                    {date.fromisoformat(day): count for day, count in summary.reading_dates.items()}, ranges,
                )
            )  # fmt: skip

    def _batch_rules(self) -> BatchRules:
        newest = {topic: dict(partitions) for topic, partitions in self.position.newest_by_partition.items()}
        return BatchRules(self.rules, newest, self._ends[READINGS], self._ends[QUARANTINE])

    def _commit(
        self, table: str, rows: DataFrame, dates: Mapping[str, int], ranges: Ranges, figures: Mapping[str, int]
    ) -> None:
        """Commit a batch to one table unless it has it, with all that the next one needs to know in the metadata."""
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
                **figures, "generation": self.generation, "offsets": covered, "ends": ends, "rows_by_date": dates,
                "topic_ids": self.topic_ids, "newest_by_partition": self.position.newest_by_partition,
                "newest_by_contract": self.position.newest_by_contract,
            }
        )  # fmt: skip
        contract = CONTRACTS[table]
        batch_id = figures["batch_id"]
        count = sum(dates.values())
        if not self._has(table, batch_id):
            if count:
                self._write(contract, rows, count, batch_id, metadata)
            else:
                self._commit_nothing(table, batch_id, metadata)
        self._ends[table] = ends

    def _has(self, table: str, batch_id: int) -> bool:
        last = self.lake.snapshot(table).delta.transaction_version(app_id(table, self.generation))
        return last is not None and last >= batch_id

    def _write(self, contract: TableContract, rows: DataFrame, count: int, batch_id: int, metadata: str) -> None:
        assert contract.partition
        writers = max(1, min(rows.sparkSession.sparkContext.defaultParallelism, count // ROWS_PER_WRITER))
        (
            rows.select(*contract.column_names)
            .coalesce(writers)
            .sortWithinPartitions(contract.partition, *contract.sort)
            .write.format("delta")
            .mode("append")
            .partitionBy(contract.partition)
            .option("txnAppId", app_id(contract.name, self.generation))
            .option("txnVersion", batch_id)
            .option("userMetadata", metadata)
            .save(self.lake.path(contract.name))
        )

    def _commit_nothing(self, table: str, batch_id: int, metadata: str) -> None:
        """A batch without rows for this table still moves its end. Needs no Spark job."""
        for _ in range(COMMIT_ATTEMPTS):
            if self._has(table, batch_id) or commit_transaction(
                self.lake, table, app_id(table, self.generation), batch_id, metadata
            ):
                return


def merged(ends: Mapping[str, Mapping[int, int]], ranges: Ranges) -> Ends:
    """The table's ends after a batch that covers these ranges."""
    result: Ends = {topic: dict(partitions) for topic, partitions in ends.items()}
    for topic, spans in ranges.items():
        own = result.setdefault(topic, {})
        for partition, (_, until) in spans.items():
            own[partition] = max(until, own.get(partition, until))
    return result


def landed_type() -> Any:
    """The Spark type of what workers give back."""
    from pyspark.sql import types as t

    from iot_platform.contracts.spark import SPARK_TYPES

    return t.StructType([t.StructField(column.name, SPARK_TYPES[column.kind], True) for column in LANDED])
