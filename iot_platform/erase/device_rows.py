"""A device's rows in the tables that name devices: how many, on which dates, and their removal in one commit a table.

What belongs here: counting and deleting by device. What else a commit says (levels, ledger) its caller gives as Delta
transactions, worked out at the very version that the rows are deleted from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake, writer_properties
from iot_platform.lake.snapshot import Snapshot

ATTEMPTS = 50
Counts = Mapping[date | None, int]
Marks = Callable[[Snapshot, Counts], Mapping[str, int]]
"""What the commit records besides: application id to version, from the rows by date that it deletes."""


def device_tables() -> list[str]:
    """The tables with a column ``device_id``, Bronze first: what is made from it follows."""
    return [name for name, contract in TABLES.items() if "device_id" in contract.column_names]


def ask(lake: Lake, snapshot: Snapshot, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    """The answer of the table's active rows, as ``rows``, to a question in SQL."""
    files = snapshot.files()
    if not files:
        return []
    with lake.reading(snapshot.contract.name) as connection:
        source = select_files(snapshot.contract, files)
        return connection.execute(f"with rows as ({source}) {sql}", parameters).fetchall()


def rows_by_date(lake: Lake, snapshot: Snapshot, device_id: str) -> dict[date | None, int]:
    """The device's rows by partition date; of a table without dates under None."""
    day = snapshot.contract.partition or "null"
    sql = f"select {day}, count(*) from rows where device_id = ? group by all order by all"
    return dict(ask(lake, snapshot, sql, [device_id]))


def known_devices(lake: Lake, containing: str) -> set[str]:
    """The ids in any table that contain this text."""
    found: set[str] = set()
    for table in device_tables():
        if lake.exists(table):
            sql = "select distinct device_id from rows where contains(device_id, ?)"
            found |= {device for (device,) in ask(lake, lake.snapshot(table), sql, [containing])}
    return found


def delete_device(lake: Lake, table: str, device_id: str, marks: Marks) -> Counts:
    """Delete the device's rows; those deleted, by date. Nothing is committed where there are none and nothing to record.

    A batch that lands meanwhile is kept (it holds no row of an erased device); after any other commit the table is looked at
    again. Raises ``LakeError`` when it cannot be written.
    """
    quoted = device_id.replace("'", "''")
    return delete_where(lake, table, f"device_id = '{quoted}'", lambda at: rows_by_date(lake, at, device_id), marks)


def delete_where(lake: Lake, table: str, predicate: str, count: Callable[[Snapshot], Counts], marks: Marks) -> Counts:
    """Delete the rows that a predicate means, with what the commit records besides; the rows deleted, by date."""
    for _ in range(ATTEMPTS):
        snapshot = lake.writable(table)
        held = count(snapshot)
        recorded = {name: version for name, version in marks(snapshot, held).items() if _moves(snapshot, name, version)}
        if not held and not recorded:
            return held
        properties = CommitProperties(
            custom_metadata={"userMetadata": '{"erased": true}'},
            app_transactions=[Transaction(name, version) for name, version in sorted(recorded.items())],
        )
        try:
            if held:
                snapshot.delta.delete(
                    predicate, writer_properties=writer_properties(snapshot.contract), commit_properties=properties
                )
            else:
                partition = snapshot.contract.partition
                snapshot.delta.create_write_transaction(
                    [], mode="append", schema=snapshot.delta.schema(),
                    partition_by=[partition] if partition else None, commit_properties=properties,
                )  # fmt: skip
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(table, error) from None
        return held
    raise LakeError(f"{table}: other writers leave no room for a commit", "Run it again when they are done")


def _moves(snapshot: Snapshot, name: str, version: int) -> bool:
    return (snapshot.transaction(name) or 0) != version
