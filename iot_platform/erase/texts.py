"""Texts of the tables that name the device in rows that are not its own: descriptions, incidents, extras of other devices.

What belongs here: which columns are looked through, and putting ``[erased]`` in the place of each trace. A date (of a table
without dates: the table) is written anew, streamed, only where a trace was found in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import Kind, TableContract
from iot_platform.erase.device_rows import ATTEMPTS, ask
from iot_platform.erase.trace import Trace
from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake, writer_properties
from iot_platform.lake.snapshot import Snapshot, changed_id

BRONZE = "bronze/readings"
ROWS_AT_ONCE = 65_536
# Names of the platform's own, and attributes that many devices share: they name no device, and rows mean nothing without.
NAMES = frozenset({
    "device_id", "contract", "metric", "topic", "asset", "check_name", "pipeline_version", "device_hash",
    "device_type", "unit", "status", "site", "zone", "state", "firmware", "detector",
})  # fmt: skip


def text_columns(contract: TableContract) -> list[str]:
    """The columns in which people or other devices may have named a device."""
    texts = [column for column in contract.columns if column.kind is Kind.STRING and not column.allowed]
    return [column.name for column in texts if column.name not in NAMES]


def passed_columns(contract: TableContract) -> frozenset[str]:
    """The columns that name no device whatever stands there; a column ``device_id`` is not among them."""
    closed = {column.name for column in contract.columns if column.allowed}
    return (NAMES | closed) - {"device_id"}


def named_in(lake: Lake, snapshot: Snapshot, trace: Trace) -> set[date | None]:
    """The dates (None: the table without dates) of which some text names the device."""
    columns = text_columns(snapshot.contract)
    if not columns or not snapshot.rows:
        return set()
    day = snapshot.contract.partition or "null"
    likely = " or ".join(f"contains({column}, ?)" for column in columns for _ in trace.spellings)
    sql = f"select distinct {day}, {', '.join(columns)} from rows where {likely}"
    found = ask(lake, snapshot, sql, [text for _ in columns for text in trace.spellings])
    return {row[0] for row in found if any(trace.is_in(text) for text in row[1:])}


def redact_texts(lake: Lake, table: str, trace: Trace) -> int:
    """Redact all traces; how many dates (or tables) were written anew. Raises ``LakeError`` when that cannot be done."""
    days = named_in(lake, lake.snapshot(table), trace)
    for day in sorted(days, key=lambda day: day or date.min):
        _rewrite(lake, table, day, trace)
    return len(days)


def _rewrite(lake: Lake, table: str, day: date | None, trace: Trace) -> None:
    for _ in range(ATTEMPTS):
        snapshot = lake.writable(table)
        marks = [Transaction(changed_id(day), snapshot.changed(day) + 1)] if table == BRONZE and day else []
        try:
            with lake.reading(table) as connection:
                source = select_files(snapshot.contract, snapshot.files([day] if day else None))
                schema = arrow_schema(snapshot.contract)
                rows = connection.sql(source).to_arrow_reader(ROWS_AT_ONCE)
                write_deltalake(
                    snapshot.delta,
                    pa.RecordBatchReader.from_batches(schema, _redacted(rows, snapshot.contract, schema, trace)),
                    mode="overwrite",
                    predicate=f"{snapshot.contract.partition} = '{day.isoformat()}'" if day else None,
                    writer_properties=writer_properties(snapshot.contract),
                    # On exactly the version that was read: what lands meanwhile is no part of it.
                    commit_properties=CommitProperties(max_commit_retries=0, app_transactions=marks),
                )
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(table, error) from None
        return
    raise LakeError(f"{table} {day or ''}: other writers leave no room for a commit", "Run it again when they are done")


def _redacted(rows: Any, contract: TableContract, schema: pa.Schema, trace: Trace) -> Iterator[pa.RecordBatch]:
    wanted = set(text_columns(contract))
    for batch in rows:
        columns = [
            pa.array([text and trace.redacted(text) for text in batch.column(field.name).to_pylist()], field.type)
            if field.name in wanted
            else batch.column(field.name).cast(field.type)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
