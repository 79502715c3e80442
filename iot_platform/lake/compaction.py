"""Merges the small files of a date into few, sorted as the table's contract says. Rows, levels and transactions stay.

Sorted by device and time a date's columns compress better and a question about one device reads little of it. The new files
take the place of the old ones on exactly the version on which these were all seen to be active: what a batch adds meanwhile
is kept, and whoever deletes or rewrites one of them meanwhile wins.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TableContract
from iot_platform.errors import LakeError
from iot_platform.failpoints import reach
from iot_platform.lake.data_files import merged, parquet_options, statistics
from iot_platform.lake.lake import Lake, writer_properties
from iot_platform.lake.snapshot import File, Snapshot

SMALL_BYTES = 32 * 2**20
TARGET_BYTES = 128 * 2**20
MANY = 4  # small files of a date that are worth a merge
ROWS_AT_ONCE = 122_880
MEMORY = "1GB"  # of the sort; it spills beyond
ATTEMPTS = 20


@dataclass(frozen=True)
class Merge:
    """What became of one date: files and bytes that were merged, and those written in their place."""

    files: int = 0
    written: int = 0
    size: int = 0
    size_written: int = 0


class Overtaken(Exception):
    """A writer was faster with the files that were to be merged; what it did stands."""


def small_files(snapshot: Snapshot, day: date | None) -> list[File]:
    """The files of a date (None: of a table without dates) that a merge takes."""
    return [file for file in snapshot.active if file.day == day and file.size < SMALL_BYTES]


def crowded_dates(snapshot: Snapshot, today: date) -> list[date]:
    """Past dates with many small files, newest first."""
    small = Counter(file.day for file in snapshot.active if file.day and file.size < SMALL_BYTES)
    return sorted((day for day, files in small.items() if files >= MANY and day < today), reverse=True)


def crowded(snapshot: Snapshot, today: date) -> list[date | None]:
    """What of a table is worth a merge: dates, or None for the whole of one without dates."""
    if snapshot.contract.partition:
        return [*crowded_dates(snapshot, today)]
    return [None] if len(small_files(snapshot, None)) >= MANY else []


def merge(lake: Lake, table: str, day: date | None) -> Merge:
    """Merge the small files of a date, sorted; of a table without dates, its small files as they are.

    Raises ``Overtaken`` or ``CommitFailedError`` where a writer was faster, and ``LakeError`` where a file cannot be read or
    written.
    """
    snapshot = lake.writable(table)
    chosen = small_files(snapshot, day)
    if len(chosen) < 2:
        return Merge()
    size = sum(file.size for file in chosen)
    if day is None:
        done = snapshot.delta.optimize.compact(
            target_size=TARGET_BYTES, writer_properties=writer_properties(snapshot.contract)
        )
        return Merge(done["numFilesRemoved"], done["numFilesAdded"], size, lake.snapshot(table).size)
    rows = sum(file.rows for file in chosen)
    written = list(_sorted_files(lake, snapshot.contract, day, [file.path for file in chosen]))
    try:
        if (found := sum(json.loads(add.stats)["numRecords"] for add in written)) != rows:
            raise LakeError(
                f"{table} {day}: its files hold {found} rows, the log says {rows}", "Nothing was changed; compare the two"
            )
        reach("maintain.before_commit")
        _put_in_place(lake, snapshot, chosen, written)
    except BaseException:
        _remove(lake, table, written)
        raise
    reach("maintain.after_commit")
    return Merge(len(chosen), len(written), size, sum(add.size for add in written))


def _clock_ms() -> int:
    """The machine's time, in ms since the epoch: vacuum compares it with its own."""
    return int(time.time() * 1_000)


def _put_in_place(lake: Lake, snapshot: Snapshot, chosen: Sequence[File], written: list[AddAction]) -> None:
    """Commit the merge; the data is the same, so that nobody who follows the table's changes sees any."""
    table, partition = snapshot.contract.name, snapshot.contract.partition
    prefix = f"{snapshot.root}/"
    moment = _clock_ms()
    gone: list[Any] = [
        RemoveAction(file.path.removeprefix(prefix), False, moment, file.size, {str(partition): str(file.day)})
        for file in chosen
    ]
    for _ in range(ATTEMPTS):
        if not {file.path for file in chosen} <= {file.path for file in snapshot.active}:
            raise Overtaken("a writer replaced its files meanwhile")
        try:
            snapshot.delta.create_write_transaction(
                [*written, *gone],
                mode="append",
                schema=snapshot.delta.schema(),
                partition_by=partition,
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except CommitFailedError:
            snapshot = lake.writable(table)
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(table, error) from None
        return
    raise Overtaken("other writers leave no room for a commit")


def _sorted_files(lake: Lake, contract: TableContract, day: date, files: list[str]) -> Iterator[AddAction]:
    """Write the rows of these files, sorted, into files of the target size; nothing names them yet."""
    schema = arrow_schema(contract)
    schema = schema.remove(schema.get_field_index(contract.partition or ""))
    filesystem, root = lake.storage.filesystem()
    batches = _sorted_rows(lake, contract, files, schema)
    batch = next(batches, None)
    while batch is not None:
        path = f"{contract.partition}={day.isoformat()}/part-{uuid4().hex}.zstd.parquet"
        target = f"{root}/{contract.name}/{path}"
        stats: dict[str, Any] | None = None
        try:
            with (
                filesystem.open_output_stream(target) as stream,
                pq.ParquetWriter(stream, schema, **parquet_options(contract)) as writer,
            ):
                while batch is not None and (stats is None or stream.tell() < TARGET_BYTES):
                    writer.write_table(batch)
                    own = statistics(batch)
                    stats = own if stats is None else merged(stats, own)
                    batch = next(batches, None)
            size = filesystem.get_file_info(target).size
        except OSError as error:
            raise lake.unwritable(contract.name, error) from None
        yield AddAction(path, size, {str(contract.partition): str(day)}, _clock_ms(), False, json.dumps(stats))


def _sorted_rows(lake: Lake, contract: TableContract, files: list[str], schema: pa.Schema) -> Iterator[pa.Table]:
    order = ", ".join(f'"{name}"' for name in contract.sort)
    names = ", ".join(f'"{name}"' for name in schema.names)
    sql = f"select {names} from ({select_files(contract, files)}) order by {order}"
    with lake.reading(contract.name) as connection:
        connection.execute(f"set memory_limit = '{MEMORY}'")
        connection.execute("set temp_directory = ?", [str(lake.settings.home / "tmp" / "maintain")])
        for batch in connection.sql(sql).to_arrow_reader(ROWS_AT_ONCE):
            yield pa.Table.from_batches([batch]).cast(schema)


def _remove(lake: Lake, table: str, written: Sequence[AddAction]) -> None:
    """Take back files that no commit names; what cannot be removed now vacuum removes."""
    filesystem, root = lake.storage.filesystem()
    for add in written:
        try:
            filesystem.delete_file(f"{root}/{table}/{add.path}")
        except OSError:
            continue
