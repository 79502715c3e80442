"""What the Spark engine does with files: read those of a pinned version, and let the workers write those of a date.

Spark's own file system is used for reading alone, and Spark needs no Delta for either: which files there are is told by the
log, which the driver reads, and what was written is committed by the lake (docs/adr/0005-one-committer.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import TableContract
from iot_platform.lake.data_files import DataFile, merged, parquet_options, statistics
from iot_platform.lake.storage import Storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from iot_platform.engines.protocol import InputFiles

# A worker holds this many rows, then they become a row group: bounds its memory.
GROUP_ROWS = 250_000
WRITTEN = "path string, size long, modified_ms long, stats string"


@dataclass(frozen=True)
class DateWriter:
    """Runs in a worker: the rows of one Spark partition, in the order they come, as one Parquet file of the table."""

    storage: Storage
    table: TableContract
    day: date | None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row that describes the file, as ``WRITTEN`` says; none when there are no rows."""
        filesystem, root = self.storage.filesystem()
        folder = f"{self.table.partition}={self.day.isoformat()}/" if self.day else ""
        path = f"{folder}part-{uuid4().hex}.zstd.parquet"
        target = f"{root}/{self.table.name}/{path}"
        writer: pq.ParquetWriter | None = None
        stats: dict[str, Any] | None = None
        try:
            for rows in self._groups(batches):
                if writer is None:
                    if not self.storage.is_s3:  # a bucket has no folders, only names
                        filesystem.create_dir(target.rpartition("/")[0], recursive=True)
                    options = parquet_options(self.table)
                    writer = pq.ParquetWriter(target, rows.schema, filesystem=filesystem, **options)
                writer.write_table(rows, row_group_size=GROUP_ROWS)
                found = statistics(rows)
                stats = found if stats is None else merged(stats, found)
        finally:
            if writer is not None:
                writer.close()
        if stats is not None:
            info = filesystem.get_file_info(target)
            written = {"path": path, "size": info.size, "modified_ms": int(info.mtime.timestamp() * 1_000)}
            yield pa.RecordBatch.from_pylist([written | {"stats": json.dumps(stats)}])

    def _groups(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(batch)
            if sum(one.num_rows for one in held) >= GROUP_ROWS:
                yield self._file_rows(held)
                held = []
        if sum(one.num_rows for one in held):
            yield self._file_rows(held)

    def _file_rows(self, batches: list[pa.RecordBatch]) -> pa.Table:
        """The rows in the contract's types. The partition's column stands in the log, not in the file."""
        rows = pa.Table.from_batches(batches).cast(arrow_schema(self.table))
        if not self.day:
            return rows
        own = pc.call_function("equal", [rows[self.table.partition], pa.scalar(self.day)])
        if not pc.call_function("all", [own], pc.ScalarAggregateOptions(skip_nulls=False)).as_py():
            raise ValueError(f"rows of another date than {self.day}")
        return rows.drop_columns([str(self.table.partition)])


def write_files(frame: DataFrame, writer: DateWriter) -> list[DataFile]:
    """Write the rows, a file for each of the frame's partitions that has any; nothing names the files yet."""
    written = frame.mapInArrow(writer, WRITTEN).collect()
    day = writer.day.isoformat() if writer.day else ""
    return [DataFile(writer.table.name, row.path, day, row.size, row.modified_ms, row.stats) for row in written]


def read_files(session: SparkSession, rows: InputFiles) -> DataFrame:
    """The rows of a pinned version, by its list of files. A column that a file lacks is null."""
    from pyspark.sql import functions as f

    from iot_platform.contracts.spark import spark_schema

    snapshot = rows.snapshot
    schema = spark_schema(snapshot.contract)
    chosen = set(snapshot.files(rows.days, after_seq=rows.after_seq))
    paths = [file.path for file in snapshot.active if file.path in chosen and file.rows]
    if not paths:
        return session.createDataFrame([], schema)
    # Every writer of the platform puts the date into the path as Spark reads it; the names are no patterns.
    reader = session.read.schema(schema).option("basePath", snapshot.root).option("__globPaths__", "false")
    frame = reader.parquet(*paths)
    return frame.where(f.col("ingest_seq") > rows.after_seq) if rows.after_seq else frame
