"""Rows to the Parquet files of a Delta table, written where Spark's workers run; the commit that makes them visible follows.

Workers write the files themselves: handing every row back to the JVM, to be cached, sorted and written there, cost more
than parsing it. A file that no commit names is invisible, and vacuum removes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from iot_platform.contracts.tables import TableContract
from iot_platform.errors import LakeError
from iot_platform.ingest.batch import BatchRules, Landing, Stamp
from iot_platform.lake.data_files import DataFile, parquet_options, statistics
from iot_platform.lake.storage import Storage

# A worker holds this many rows of a table, then they become files: bounds its memory.
ROWS_PER_FILE = 500_000
FILE, SUMMARY = "file", "summary"
RESULT_SCHEMA = pa.schema([("kind", pa.string()), ("detail", pa.string())])


@dataclass(frozen=True)
class Writer:
    """Writes the rows of one batch into the lake."""

    storage: Storage
    rules: BatchRules
    stamp: Stamp

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One worker's share: its files and its summaries, as rows of (kind, detail) with JSON in ``detail``."""
        landing = Landing(self.rules, self.stamp)
        held: dict[str, list[pa.RecordBatch]] = {}
        tables: dict[str, TableContract] = {}
        for table, rows in landing.land(batches):
            tables[table.name] = table
            waiting = held.setdefault(table.name, [])
            waiting.append(rows)
            if sum(batch.num_rows for batch in waiting) >= ROWS_PER_FILE:
                yield _results(FILE, [json.dumps(asdict(file)) for file in self.write(table, held.pop(table.name))])
        for name, waiting in held.items():
            yield _results(FILE, [json.dumps(asdict(file)) for file in self.write(tables[name], waiting)])
        yield _results(SUMMARY, landing.summaries())

    def write(self, table: TableContract, batches: list[pa.RecordBatch]) -> Iterator[DataFile]:
        """Write the rows sorted, one file for each date."""
        assert table.partition
        rows = pa.Table.from_batches(batches)
        rows = rows.sort_by([(name, "ascending") for name in (table.partition, *table.sort)])
        filesystem, root = self.storage.filesystem()
        for run in rows[table.partition].value_counts().to_pylist():
            day = run["values"].isoformat()
            chunk, rows = rows.slice(0, run["counts"]).drop_columns([table.partition]), rows.slice(run["counts"])
            path = f"{table.partition}={day}/part-{uuid4().hex}.zstd.parquet"
            target = f"{root}/{table.name}/{path}"
            try:
                if not self.storage.is_s3:  # a bucket has no folders, only names
                    filesystem.create_dir(target.rpartition("/")[0], recursive=True)
                pq.write_table(chunk, target, filesystem=filesystem, **parquet_options(table))
                size = filesystem.get_file_info(target).size
            except OSError as error:
                with suppress(OSError):  # half a file would hold what is left of a full disk until the next vacuum
                    filesystem.delete_file(target)
                raise LakeError(
                    f"cannot write {target}: {' '.join(str(error).split())[:200]}",
                    "Check that the disk or the bucket is there, writable and not full; nothing is lost, run it again",
                ) from None
            yield DataFile(table.name, path, day, size, self.stamp.began_us // 1_000, json.dumps(statistics(chunk)))


def _results(kind: str, details: list[str]) -> pa.RecordBatch:
    return pa.record_batch([pa.array([kind] * len(details), pa.string()), pa.array(details, pa.string())], RESULT_SCHEMA)
