"""Parquet files of a table that Spark's workers write themselves: how they are laid out, what Delta is told of them, and the
commit that puts them in the place of a date's rows.

What belongs here: what ingestion and the Spark engine share. A file that no commit names is invisible; vacuum removes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from iot_platform.contracts.tables import Kind, TableContract
from iot_platform.errors import LakeError
from iot_platform.lake.lake import STATISTICS, Lake, commit_properties, refuse_older

ATTEMPTS = 100
# Never repeats: a dictionary would only cost.
UNIQUE = frozenset({"event_id"})


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a table: ``path`` relative to the table, ``day`` its partition (empty in a table without
    partitions), ``stats`` as Delta wants them."""

    table: str
    path: str
    day: str
    size: int
    modified_ms: int
    stats: str

    def action(self, partition: str | None) -> AddAction:
        """The file as Delta's log names it."""
        values = {partition: self.day} if partition else {}
        return AddAction(self.path, self.size, values, self.modified_ms, True, self.stats)


def replace_by_files(
    lake: Lake,
    table: str,
    day: date | None,
    files: Sequence[DataFile],
    *,
    level: int,
    inputs: Mapping[str, int],
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Put these files in the place of one date's (``None``: of the whole table's), with its level, in one commit.

    The commit is made on exactly the version at which the level was looked up; whoever was faster, we look again. So of two
    writers of a date the one with the newer inputs stands, in whatever order they commit, and neighbours lose nothing: on a
    disk and, by conditional puts, in a bucket. Returns the new version. Raises ``LakeError`` when a level that is not older
    is recorded already (nothing is committed then) or the table cannot be written.
    """
    partition = lake.contract(table).partition
    for _ in range(ATTEMPTS):
        snapshot = lake.writable(table)
        refuse_older(snapshot, day, level)
        try:
            snapshot.delta.create_write_transaction(
                [file.action(partition) for file in files],
                mode="overwrite",
                schema=snapshot.delta.schema(),
                partition_by=[partition] if partition else None,
                partition_filters=[(partition, "=", day.isoformat())] if partition and day else None,
                commit_properties=commit_properties(table, day, level, inputs, metadata, max_commit_retries=0),
            )
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(table, error) from None
        return snapshot.version + 1  # the handle stays where it was opened
    raise LakeError(f"{table}: other writers leave no room for a commit", "Run it again when they are done")


def parquet_options(table: TableContract) -> dict[str, Any]:
    """zstd; growing numbers and times as differences, unique values plain, all others by dictionary."""
    columns = [column for column in table.columns if column.name != table.partition]
    growing = [column.name for column in columns if column.kind in {Kind.TIMESTAMP, Kind.BIGINT}]
    lists = {Kind.HEADERS, Kind.CHANGES}
    repeated = [
        column.name for column in columns
        if column.name not in growing and column.name not in UNIQUE and column.kind not in lists
        and column.kind is not Kind.BOOLEAN
    ]  # fmt: skip
    return {
        "compression": "zstd",
        "use_dictionary": repeated,
        "column_encoding": dict.fromkeys(growing, "DELTA_BINARY_PACKED"),
        "coerce_timestamps": "us",
    }


def statistics(rows: pa.Table) -> dict[str, Any]:
    """Delta's file statistics, for the columns that the platform prunes by."""
    stats: dict[str, Any] = {"numRecords": rows.num_rows, "minValues": {}, "maxValues": {}, "nullCount": {}}
    for name in rows.column_names:
        if name in STATISTICS:
            column = rows[name]
            stats["nullCount"][name] = column.null_count
            if column.null_count < rows.num_rows:
                if pa.types.is_timestamp(column.type):
                    # Milliseconds are what Delta's readers expect; the bounds are rounded outwards.
                    low, high = _bounds(column.cast(pa.int64()))
                    stats["minValues"][name] = _iso_ms(low // 1_000)
                    stats["maxValues"][name] = _iso_ms(-(-high // 1_000))
                else:
                    stats["minValues"][name], stats["maxValues"][name] = _bounds(column)
    return stats


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics of a file whose rows are those of both."""
    counts = {name: one["nullCount"][name] + other["nullCount"][name] for name in one["nullCount"]}
    bounds: dict[str, dict[str, Any]] = {}
    for side, choose in (("minValues", min), ("maxValues", max)):
        values = {name: [part[side][name] for part in (one, other) if name in part[side]] for name in counts}
        bounds[side] = {name: choose(found) for name, found in values.items() if found}
    return {"numRecords": one["numRecords"] + other["numRecords"], **bounds, "nullCount": counts}


def _bounds(column: Any) -> tuple[Any, Any]:
    found = pc.call_function("min_max", [column]).as_py()
    return found["min"], found["max"]


def _iso_ms(moment_ms: int) -> str:
    moment = pa.scalar(moment_ms, pa.timestamp("ms", tz="UTC")).as_py()
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment_ms % 1_000:03d}Z"
