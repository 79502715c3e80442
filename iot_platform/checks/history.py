"""The history of check results: every evaluation of Dagster's event log becomes one row of ``ops/check_results``, once.

Dagster's log is the only source, so that checks of every kind are in it, dbt's tests too, whoever ran them. The number up
to which the log was read is committed with the rows, as a Delta transaction on exactly the version that was looked at: of
two collectors one commits and the other looks again, and one that is killed leaves either both or nothing.

Logs on a server number their events a moment before they show them, and a log can lose its newest runs and give their
numbers again. So the last stretch is read again each time, and what the table has already is left out by its identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from time import monotonic
from typing import Any

import dagster as dg
import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake, writer_properties
from iot_platform.lake.snapshot import Snapshot

TABLE = "ops/check_results"
READ_AGAIN = 500  # numbers of events
AT_ONCE = 4000  # evaluations in one commit; more than are read again, so that each look gets further
SECONDS = 8.0
ATTEMPTS = 50


@dataclass(frozen=True)
class Collected:
    """How many evaluations were added, and whether that was all there are."""

    rows: int = 0
    is_complete: bool = True


def collect(lake: Lake, instance: dg.DagsterInstance, seconds: float = SECONDS) -> Collected:
    """Add every evaluation that the table does not have; begins no further commit after ``seconds``.

    Raises ``LakeError`` when the table cannot be written, or other writers leave no room.
    """
    until = monotonic() + seconds
    app = f"check_history/{log_identity(instance)}"
    added = attempts = 0
    while True:
        snapshot = lake.writable(TABLE)
        covered = snapshot.transaction(app) or 0
        newest = newest_evaluation(instance)
        if newest == covered:
            return Collected(added)
        # Below what was covered: the log was wiped, or lost its newest runs, and numbers anew.
        start = max(0, covered - READ_AGAIN) if newest > covered else 0
        records = evaluations(instance, start, AT_ONCE)
        until_event = records[-1].storage_id if len(records) == AT_ONCE else newest
        known = recorded(lake, snapshot, start)
        rows = [row for row in map(as_row, records) if row["evaluation_id"] not in known]
        try:
            append(lake, snapshot, rows, app, until_event)
        except CommitFailedError:
            attempts += 1
            if attempts > ATTEMPTS:
                raise LakeError(f"{TABLE}: other writers leave no room for a commit", "The next look adds it.") from None
            continue
        added += len(rows)
        if monotonic() >= until:
            return Collected(added, is_complete=until_event >= newest)


def log_identity(instance: dg.DagsterInstance) -> str:
    """Which record of Dagster's this is: its events are numbered apart from those of any other."""
    from dagster._core.storage.runs import SqlRunStorage

    storage = instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    return storage.get_run_storage_id()


def newest_evaluation(instance: dg.DagsterInstance) -> int:
    """The number of the newest evaluation in the log; 0 when there is none."""
    records = _records(instance, None, 1, ascending=False)
    return records[0].storage_id if records else 0


def evaluations(instance: dg.DagsterInstance, after: int, limit: int) -> Sequence[dg.EventLogRecord]:
    """The evaluations with a number above ``after``, oldest first."""
    return _records(instance, after, limit, ascending=True)


def _records(
    instance: dg.DagsterInstance, after: int | None, limit: int, *, ascending: bool
) -> Sequence[dg.EventLogRecord]:
    from dagster._core.event_api import EventRecordsFilter
    from dagster._core.storage.event_log import SqlEventLogStorage

    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    wanted = EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=after)
    # Asked of the class above: SQLite's own opens the file of every run there ever was; its index has evaluations too.
    return SqlEventLogStorage.get_event_records(storage, wanted, limit, ascending)


def recorded(lake: Lake, snapshot: Snapshot, after: int) -> set[str]:
    """The identities that the table has of evaluations with a number above ``after``, of whatever log."""
    files = snapshot.files_above("event_id", after)
    if not files:
        return set()
    sql = f"select evaluation_id from ({select_files(snapshot.contract, files)}) where event_id > ?"
    with lake.reading(TABLE) as connection:
        return {identity for (identity,) in connection.execute(sql, [after]).fetchall()}


def as_row(record: dg.EventLogRecord) -> dict[str, Any]:
    """One evaluation as a row of the table."""
    entry = record.event_log_entry
    assert entry.dagster_event
    evaluation = entry.dagster_event.asset_check_evaluation_data
    metadata = evaluation.metadata
    return {
        # A run's id is like no other; evaluations outside of runs are told apart by their moment.
        "evaluation_id": f"{entry.run_id or entry.timestamp}/{record.storage_id}",
        "event_id": record.storage_id,
        "evaluated_at": datetime.fromtimestamp(entry.timestamp, UTC),
        "run_id": entry.run_id or None,
        "asset": "/".join(evaluation.asset_key.path),
        "check_name": evaluation.check_name,
        "event_date": _day(evaluation.partition),
        "passed": evaluation.passed,
        "severity": evaluation.severity.value,
        "is_blocking": bool(evaluation.blocking),
        "figure": _number(metadata, "figure"),
        "unit": _value(metadata, "unit"),
        "warn_at": _number(metadata, "warn_at"),
        "fail_at": _number(metadata, "fail_at"),
        "description": evaluation.description or None,
    }


def _value(metadata: Any, name: str) -> Any:
    return metadata[name].value if name in metadata else None


def _number(metadata: Any, name: str) -> float | None:
    value = _value(metadata, name)
    return float(value) if isinstance(value, int | float) else None


def _day(partition: str | None) -> date | None:
    try:
        return date.fromisoformat(partition) if partition else None
    except ValueError:  # partitioned by something else than dates
        return None


def append(lake: Lake, snapshot: Snapshot, rows: Sequence[dict[str, Any]], app: str, covered: int) -> None:
    """Commit the rows, and up to which event the log is covered, on exactly this version; ``CommitFailedError`` when
    another commit came in between."""
    properties = CommitProperties(max_commit_retries=0, app_transactions=[Transaction(app, covered)])
    try:
        if rows:
            write_deltalake(
                snapshot.delta,
                pa.Table.from_pylist(list(rows), schema=arrow_schema(TABLES[TABLE])),
                mode="append",
                writer_properties=writer_properties(snapshot.contract),
                commit_properties=properties,
            )
        else:
            schema = snapshot.delta.schema()
            snapshot.delta.create_write_transaction([], mode="append", schema=schema, commit_properties=properties)
    except CommitFailedError:
        raise
    except (DeltaError, OSError) as error:
        raise lake.unwritable(TABLE, error) from None
