"""Keeps the tables quick to open and the disk free of what nobody reads any more. Changes no row, no level, no transaction.

Small files of past dates, and of tables without dates, are merged, a checkpoint spares readers the log's many small files,
and files that no version of the last days names are removed. A writer is never in the way of this, nor this in a writer's:
whoever commits in between wins, and the date is looked at again the next time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from deltalake import CommitProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.tables import TABLES
from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake, first_line, writer_properties
from iot_platform.lake.snapshot import Snapshot
from iot_platform.lake.stream_log import SUMMARY, stream_commits, summary_of
from iot_platform.transforms.catalog import TRANSFORMS

SMALL_BYTES = 32 * 2**20
MANY = 4  # small files of a date that are worth a merge
MOST_DATES = 500  # a table and a night; those that wait are taken the next night
MIN_VERSIONS_KEPT = timedelta(days=7)  # whoever began to read may go on, and an uncommitted batch may still be committed
SUMMARY_AFTER = timedelta(days=7)  # Delta removes commits after 30 days: what the stream's say is said again long before


@dataclass(frozen=True)
class MaintenanceResult:
    """What was done to one table; one without dates counts as one. ``skipped``: what a writer was faster with, in words; it
    is taken the next time. ``failed``: why the table could not be read or written; the others are maintained."""

    table: str
    dates_compacted: int = 0
    files_merged: int = 0
    files_written: int = 0
    files_removed: int = 0
    is_checkpointed: bool = False
    is_summarized: bool = False
    skipped: tuple[str, ...] = ()
    failed: str = ""

    @property
    def did_anything(self) -> bool:
        return bool(self.dates_compacted or self.files_removed or self.is_checkpointed or self.is_summarized)


def appended_tables() -> list[str]:
    """The tables that grow commit by commit. What is derived is replaced whole: its files do not pile up, and a merge could
    only get into the way of who replaces it."""
    return [name for name in TABLES if name not in TRANSFORMS]


def maintain(lake: Lake, now: datetime, versions_kept: timedelta = MIN_VERSIONS_KEPT) -> list[MaintenanceResult]:
    """Maintain every table that is there. ``now`` is aware; files of versions older than ``versions_kept`` go.

    Raises ``ValueError`` for less than 7 days. A table that cannot be read or written is in its result (``failed``): see
    ``refuse_failed``.
    """
    if versions_kept < MIN_VERSIONS_KEPT:
        raise ValueError(f"versions are kept for at least {MIN_VERSIONS_KEPT.days} days")
    results: list[MaintenanceResult] = []
    for table in TABLES:
        try:
            if lake.exists(table):
                results.append(_maintained(lake, table, now, versions_kept))
        except LakeError as error:
            results.append(MaintenanceResult(table, failed=str(error)))
    return results


def refuse_failed(results: Sequence[MaintenanceResult]) -> None:
    """Raise ``LakeError``, naming the tables that could not be maintained, if there are any."""
    failed = [result for result in results if result.failed]
    if failed:
        names = ", ".join(result.table for result in failed)
        raise LakeError(f"not maintained: {names}; first: {failed[0].failed}", "The others were; these are tried again.")


def _maintained(lake: Lake, table: str, now: datetime, versions_kept: timedelta) -> MaintenanceResult:
    result = MaintenanceResult(table)
    try:
        result = replace(result, is_summarized=summarize(lake, table, now))
        if table in appended_tables():
            result = _compacted(lake, result, now.date())
        snapshot = lake.writable(table)
        is_checkpointed = not has_checkpoint(lake, snapshot)
        if is_checkpointed:
            snapshot.delta.create_checkpoint()
        snapshot.delta.cleanup_metadata()
        removed = _vacuumed(snapshot, versions_kept)
        return replace(result, is_checkpointed=is_checkpointed, files_removed=removed)
    except CommitFailedError as error:
        return replace(result, skipped=(*result.skipped, first_line(error)))
    except (DeltaError, OSError) as error:
        raise lake.unwritable(table, error) from None


def crowded_dates(snapshot: Snapshot, today: date) -> list[date]:
    """Past dates with many small files, newest first."""
    small = Counter(file.day for file in snapshot.active if file.day and file.size < SMALL_BYTES)
    return sorted((day for day, files in small.items() if files >= MANY and day < today), reverse=True)


def crowded(snapshot: Snapshot, today: date) -> list[date | None]:
    """What of a table is worth a merge: dates, or None for the whole of one without dates."""
    if snapshot.contract.partition:
        return [*crowded_dates(snapshot, today)]
    return [None] if sum(file.size < SMALL_BYTES for file in snapshot.active) >= MANY else []


def _compacted(lake: Lake, result: MaintenanceResult, today: date) -> MaintenanceResult:
    snapshot = lake.snapshot(result.table)
    for day in crowded(snapshot, today)[:MOST_DATES]:
        # Opened anew for each date: it is merged as it is now, and a conflict costs this date only.
        delta = lake.writable(result.table).delta
        try:
            done = delta.optimize.compact(
                partition_filters=[(snapshot.contract.partition or "", "=", day.isoformat())] if day else None,
                target_size=4 * SMALL_BYTES,
                writer_properties=writer_properties(snapshot.contract),
            )
        except CommitFailedError as error:
            result = replace(result, skipped=(*result.skipped, f"{day or 'all'}: {first_line(error)}"))
            continue
        result = replace(
            result,
            dates_compacted=result.dates_compacted + bool(done["numFilesRemoved"]),
            files_merged=result.files_merged + done["numFilesRemoved"],
            files_written=result.files_written + done["numFilesAdded"],
        )
    return result


def _vacuumed(snapshot: Snapshot, versions_kept: timedelta) -> int:
    """How many files were removed: those of old versions, and those of batches that were never committed."""
    hours = int(versions_kept.total_seconds() // 3600)
    # A removal is two commits of its own: none for nothing.
    if not snapshot.delta.vacuum(retention_hours=hours, dry_run=True, full=True):
        return 0
    return len(snapshot.delta.vacuum(retention_hours=hours, dry_run=False, full=True))


def summarize(lake: Lake, table: str, now: datetime) -> bool:
    """Say in a commit of today what the ingest stream's older commits say, before Delta removes them; whether it was due.

    Their metadata hold the offsets, how far event time has come, and what was consumed: the levels and the ledger read it.
    """
    snapshot = lake.writable(table)
    commits = stream_commits(snapshot.delta)
    if not commits or now - commits[-1].at < SUMMARY_AFTER:
        return False
    metadata: dict[str, Any] = {**summary_of([commit.metadata for commit in commits]), SUMMARY: len(commits)}
    partition = snapshot.contract.partition
    snapshot.delta.create_write_transaction(
        [],
        mode="append",
        schema=snapshot.delta.schema(),
        partition_by=[partition] if partition else None,
        # On exactly the version that was read: a batch that came in between is not left out of the sum.
        commit_properties=CommitProperties(
            custom_metadata={"userMetadata": json.dumps(metadata, separators=(",", ":"))}, max_commit_retries=0
        ),
    )
    return True


def has_checkpoint(lake: Lake, snapshot: Snapshot) -> bool:
    """Whether the newest version, or the one before it, has a checkpoint."""
    filesystem, root = lake.storage.filesystem()
    try:
        with filesystem.open_input_stream(f"{root}/{snapshot.contract.name}/_delta_log/_last_checkpoint") as file:
            return json.loads(file.read())["version"] >= snapshot.version - 1
    except (OSError, ValueError, KeyError):
        return snapshot.version == 0
