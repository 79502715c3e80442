"""Keeps the tables quick to open and the disk free of what nobody needs any more: what the settings do not keep, small
files, old versions.

Retention closes and deletes whole dates (``expiry``). Everything else changes no row, no level and no transaction: small
files of past dates, and of tables without dates, are merged and sorted (``compaction``), a checkpoint spares readers the
log's many small files, and files that no version of the last days names are removed. A writer is never in the way of this,
nor this in a writer's: whoever commits in between wins, and the date is looked at again the next time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from deltalake import CommitProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.tables import TABLES
from iot_platform.errors import LakeError
from iot_platform.lake.compaction import Overtaken, crowded, merge, small_files
from iot_platform.lake.expiry import Expiry, Untaken, expire
from iot_platform.lake.lake import Lake, first_line
from iot_platform.lake.retention import Periods
from iot_platform.lake.snapshot import Snapshot
from iot_platform.lake.stream_log import SUMMARY, stream_commits, summary_of
from iot_platform.transforms.catalog import TRANSFORMS

MOST_DATES = 500  # a table and a night; those that wait are taken the next night
MIN_VERSIONS_KEPT = timedelta(days=7)  # whoever began to read may go on, and an uncommitted batch may still be committed
SUMMARY_AFTER = timedelta(days=7)  # Delta removes commits after 30 days: what the stream's say is said again long before


@dataclass(frozen=True)
class MaintenanceResult:
    """What was done to one table, or would be; one without dates counts as one.

    ``*_expired``: what the settings do not keep any longer; ``kept``: what of that had to stay, and why; ``closed_before``
    (``bronze/readings``): the first date that is open. ``bytes_*`` are of the files merged and of those in their place.
    ``skipped``: what a writer was faster with, in words; it is taken the next time. ``failed``: why the table could not be
    read or written; the others are maintained.
    """

    table: str
    dates_expired: int = 0
    rows_expired: int = 0
    bytes_expired: int = 0
    kept: str = ""
    closed_before: date | None = None
    dates_compacted: int = 0
    files_merged: int = 0
    files_written: int = 0
    bytes_merged: int = 0
    bytes_written: int = 0
    files_removed: int = 0
    is_checkpointed: bool = False
    is_summarized: bool = False
    skipped: tuple[str, ...] = ()
    failed: str = ""

    @property
    def did_anything(self) -> bool:
        return bool(
            self.dates_expired or self.dates_compacted or self.files_removed or self.is_checkpointed or self.is_summarized
        )


@dataclass(frozen=True)
class Chosen:
    """What is to be maintained: all, or some tables, or of them some dates (UTC, both included)."""

    tables: frozenset[str] = frozenset()
    first: date = date.min
    last: date = date.max

    @property
    def is_everything(self) -> bool:
        return self == Chosen()

    @property
    def is_of_dates(self) -> bool:
        return (self.first, self.last) != (date.min, date.max)

    def holds(self, table: str) -> bool:
        return not self.tables or table in self.tables


def appended_tables() -> list[str]:
    """The tables that grow commit by commit. What is derived is replaced whole: its files do not pile up, and a merge could
    only get into the way of who replaces it."""
    return [name for name in TABLES if name not in TRANSFORMS]


def maintain(
    lake: Lake,
    now: datetime,
    versions_kept: timedelta = MIN_VERSIONS_KEPT,
    *,
    chosen: Chosen | None = None,
    untaken: Untaken | None = None,
    dry_run: bool = False,
) -> list[MaintenanceResult]:
    """Maintain every table that is there, or what is ``chosen``; retention only where that is everything.

    ``now`` is aware; files of versions older than ``versions_kept`` go. ``untaken``: see ``expiry``. ``dry_run``: only say
    what would be done. Raises ``ValueError`` for less than 7 days and ``InputError`` for periods of retention that
    contradict each other. A table that cannot be read or written is in its result (``failed``): see ``refuse_failed``.
    """
    if versions_kept < MIN_VERSIONS_KEPT:
        raise ValueError(f"versions are kept for at least {MIN_VERSIONS_KEPT.days} days")
    chosen = chosen or Chosen()
    Periods.of(lake.settings)
    results: list[MaintenanceResult] = []
    expired: dict[str, Expiry] = {}
    if chosen.is_everything:
        try:
            expired = {one.table: one for one in expire(lake, now, untaken=untaken, dry_run=dry_run)}
        except LakeError as error:
            results.append(MaintenanceResult("retention", failed=str(error)))
    for table in filter(chosen.holds, TABLES):
        result = _with_expiry(MaintenanceResult(table), expired.get(table))
        try:
            if lake.exists(table):
                results.append(_maintained(lake, result, now, versions_kept, chosen, dry_run=dry_run))
        except LakeError as error:
            results.append(replace(result, failed=str(error)))
    return results


def _with_expiry(result: MaintenanceResult, expired: Expiry | None) -> MaintenanceResult:
    if expired is None:
        return result
    return replace(
        result, dates_expired=expired.dates, rows_expired=expired.rows, bytes_expired=expired.size, kept=expired.kept,
        closed_before=expired.closes,
    )  # fmt: skip


def refuse_failed(results: Sequence[MaintenanceResult]) -> None:
    """Raise ``LakeError``, naming the tables that could not be maintained, if there are any."""
    failed = [result for result in results if result.failed]
    if failed:
        names = ", ".join(result.table for result in failed)
        raise LakeError(f"not maintained: {names}; first: {failed[0].failed}", "The others were; these are tried again.")


def _maintained(
    lake: Lake, result: MaintenanceResult, now: datetime, versions_kept: timedelta, chosen: Chosen, *, dry_run: bool
) -> MaintenanceResult:
    table = result.table
    try:
        if chosen.is_of_dates:
            return _compacted(lake, result, now, chosen, dry_run=dry_run)
        if not dry_run:
            result = replace(result, is_summarized=summarize(lake, table, now))
        if table in appended_tables():
            result = _compacted(lake, result, now, chosen, dry_run=dry_run)
        snapshot = lake.writable(table)
        is_checkpointed = not has_checkpoint(lake, snapshot)
        if not dry_run:
            if is_checkpointed:
                snapshot.delta.create_checkpoint()
            snapshot.delta.cleanup_metadata()
        removed = _vacuumed(snapshot, versions_kept, dry_run=dry_run)
        return replace(result, is_checkpointed=is_checkpointed, files_removed=removed)
    except CommitFailedError as error:
        return replace(result, skipped=(*result.skipped, first_line(error)))
    except (DeltaError, OSError) as error:
        raise lake.unwritable(table, error) from None


def to_merge(snapshot: Snapshot, today: date, chosen: Chosen) -> list[date | None]:
    """What of a table is merged: crowded past dates, or of chosen ones each that has more than one small file."""
    if not chosen.is_of_dates:
        return crowded(snapshot, today)[:MOST_DATES]
    days = {file.day for file in snapshot.active if file.day and chosen.first <= file.day <= chosen.last}
    return [day for day in sorted(days, reverse=True) if len(small_files(snapshot, day)) > 1]


def _compacted(
    lake: Lake, result: MaintenanceResult, now: datetime, chosen: Chosen, *, dry_run: bool
) -> MaintenanceResult:
    snapshot = lake.snapshot(result.table)
    for day in to_merge(snapshot, now.date(), chosen):
        if dry_run:
            small = small_files(snapshot, day)
            result = replace(
                result, dates_compacted=result.dates_compacted + 1, files_merged=result.files_merged + len(small),
                bytes_merged=result.bytes_merged + sum(file.size for file in small),
            )  # fmt: skip
            continue
        # Opened anew for each date: it is merged as it is now, and a conflict costs this date only.
        try:
            done = merge(lake, result.table, day)
        except (Overtaken, CommitFailedError) as error:
            result = replace(result, skipped=(*result.skipped, f"{day or 'all'}: {first_line(error)}"))
            continue
        result = replace(
            result,
            dates_compacted=result.dates_compacted + bool(done.files),
            files_merged=result.files_merged + done.files,
            files_written=result.files_written + done.written,
            bytes_merged=result.bytes_merged + done.size,
            bytes_written=result.bytes_written + done.size_written,
        )
    return result


def _vacuumed(snapshot: Snapshot, versions_kept: timedelta, *, dry_run: bool) -> int:
    """How many files were removed: those of old versions, and those of batches that were never committed."""
    hours = int(versions_kept.total_seconds() // 3600)
    # A removal is two commits of its own: none for nothing.
    unread = len(snapshot.delta.vacuum(retention_hours=hours, dry_run=True, full=True))
    if dry_run or not unread:
        return unread
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
