"""What has had its time: closes dates, then deletes them, layer by layer, a table in one commit and by partitions only.

A date is closed on exactly the version of Bronze on which everything was seen to be made from it, so that no reading that
was let in is ever left behind. Nothing is deleted that a later layer has not taken: then the dates from that one on stay,
and the reason is told. Files go by vacuum, a week later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from time import monotonic, sleep
from typing import Any

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import LakeError
from iot_platform.failpoints import reach
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels
from iot_platform.lake.retention import (
    BRONZE,
    CLOSED_BEFORE,
    DAY,
    EXPIRED_MESSAGES,
    Periods,
    closed_before_of,
    closed_number,
    expired,
    expired_id,
    look_back,
)
from iot_platform.lake.snapshot import Snapshot, level_id
from iot_platform.lake.stream_log import last_stream_commit
from iot_platform.transforms.catalog import TRANSFORMS

QUARANTINE = "bronze/quarantine"
FIRST_READINGS = "registry/first_readings"
ATTEMPTS = 100
LANDING_SECONDS = 3.0  # how long the second commit of a batch is waited for
LOOK_SECONDS = 0.05
Untaken = Callable[[], Mapping[str, Iterable[date]]]
"""Per table the dates that something beyond the lake (the marts) has not taken yet."""


@dataclass(frozen=True)
class Bound:
    """Dates before ``day`` go; ``why`` others that have had their time do not, if there are such (``since``: the first)."""

    day: date
    why: str = ""
    since: date | None = None

    def unless(self, oldest: date | None, why: str) -> Bound:
        """Not from ``oldest`` on, if that is before."""
        return self if oldest is None or oldest >= self.day else Bound(oldest, why, oldest)


@dataclass(frozen=True)
class Expiry:
    """What went, or would go, from one table: dates from ``first`` to ``last``, their rows, files and bytes. ``kept``: which
    dates that have had their time stay, and why; ``closes``: on ``bronze/readings``, the first date that is open now."""

    table: str
    dates: int = 0
    first: date | None = None
    last: date | None = None
    rows: int = 0
    files: int = 0
    size: int = 0
    kept: str = ""
    closes: date | None = None


def expire(lake: Lake, now: datetime, *, untaken: Untaken | None = None, dry_run: bool = False) -> list[Expiry]:
    """Close what is to be closed, and delete what has had its time; one result for each table that has either.

    ``dry_run``: only say it. ``now`` is aware. Raises ``InputError`` for periods that contradict each other and
    ``LakeError`` where a table cannot be read or written; what was done before stands, and the next run goes on.
    """
    periods = Periods.of(lake.settings)
    today = now.date()
    found: list[Expiry] = []
    if not any((periods.bronze, periods.silver, periods.quarantine, periods.gold)) or not lake.exists(BRONZE):
        return found
    closing = Bound(periods.closes(today) or date.min)
    if periods.bronze:
        closing = close(lake, closing.day, dry_run=dry_run)
    missing = untaken() if untaken and (periods.silver or periods.gold) else {}
    # What is made of a layer goes last, so that whatever dies in between leaves nothing that could not be made.
    for table in (BRONZE, QUARANTINE, *(name for name in TRANSFORMS if TABLES[name].partition)):
        end = periods.ends(table, today)
        if end is None or not lake.exists(table):
            continue
        bound = _bound(lake, table, end, closing, missing)
        gone = delete_before(lake, table, bound.day, dry_run=dry_run)
        closes = closing.day if table == BRONZE else None
        kept = _said(bound) or (_said(closing) if table == BRONZE else "")
        if gone.dates or kept or closes:
            found.append(Expiry(**{**vars(gone), "kept": kept, "closes": closes}))
    return found


def _said(bound: Bound) -> str:
    if bound.since in (None, date.min):
        return bound.why
    return f"from {bound.since} on: {bound.why}"


def close(lake: Lake, target: date, *, dry_run: bool = False) -> Bound:
    """Close all dates before ``target``, but none from the oldest on that is not finished; what is closed now.

    It never opens again: of two calls the later date stands.
    """
    for _ in range(ATTEMPTS):
        snapshot = lake.writable(BRONZE)
        levels = Levels(lake, {BRONZE: snapshot})
        bound = Bound(target)
        known = closed_before_of(snapshot)
        for why, days in unfinished(levels, known or date.min, target).items():
            bound = bound.unless(min(days, default=None), why)
        if known is not None and known >= bound.day:
            return Bound(known, bound.why, bound.since)
        if dry_run:
            return bound
        reach("retention.before_close")
        if _committed(lake, snapshot, [Transaction(CLOSED_BEFORE, closed_number(bound.day))]):
            reach("retention.after_close")
            return bound
    raise LakeError(f"{BRONZE}: other writers leave no room for a commit", "Run it again; nothing was lost.")


def unfinished(levels: Levels, first: date, before: date) -> dict[str, list[date]]:
    """Why which dates from ``first`` on, and before ``before``, cannot be closed: they would stay as they are for good."""
    found: dict[str, list[date]] = {}
    for said, by_table in (("is not made from its newest inputs", levels.stale()), ("is held by a rollback", levels.held())):
        for table, days in by_table.items():
            if waiting := [day for day in days if first <= day < before]:
                found[f"{table} {said}"] = waiting
    return found


def _bound(lake: Lake, table: str, end: date, closing: Bound, untaken: Mapping[str, Iterable[date]]) -> Bound:
    """Until when the dates of a table go, and what keeps the others."""
    bound = Bound(end)
    layer = TABLES[table].layer
    if layer == "bronze" and is_half_landed(lake):
        return bound.unless(date.min, "a batch is in one of both Bronze tables only: ingestion ends that itself")
    if table != QUARANTINE:
        why = closing.why or "dates that are open look back on it"
        bound = bound.unless(closing.day - DAY * look_back(layer), why)
    if table == BRONZE:
        seen = lake.snapshot(FIRST_READINGS).recorded_level(None)
        unseen = [day for day, seq in lake.snapshot(BRONZE).sequences.items() if seq > seen]
        bound = bound.unless(min(unseen, default=None), "the device registry has not seen it yet")
    return bound.unless(min(untaken.get(table, ()), default=None), "the marts are not made from it yet")


def is_half_landed(lake: Lake) -> bool:
    """Whether a batch is in one of Bronze's tables only, and stays so: between its two commits every batch is."""
    deadline = monotonic() + LANDING_SECONDS
    while _is_between_commits(lake):
        if monotonic() >= deadline:
            return True
        sleep(LOOK_SECONDS)
    return False


def _is_between_commits(lake: Lake) -> bool:
    readings, quarantine = (
        (last_stream_commit(lake.snapshot(name).delta) or {}).get("ends") or {} for name in (BRONZE, QUARANTINE)
    )
    return any(
        end > quarantine.get(topic, {}).get(partition, 0)
        for topic, partitions in readings.items()
        for partition, end in partitions.items()
    )


def delete_before(lake: Lake, table: str, before: date, *, dry_run: bool = False) -> Expiry:
    """Delete a table's dates before this one, and count them, in one commit that reads and writes no data.

    A derived date's level is raised with it, so that the marts let go of it too.
    """
    for _ in range(ATTEMPTS):
        snapshot = lake.writable(table)
        gone = [file for file in snapshot.active if file.day and file.day < before]
        if not gone:
            return Expiry(table)
        days = sorted({file.day for file in gone if file.day})
        result = Expiry(
            table, len(days), days[0], days[-1], sum(file.rows for file in gone), len(gone), sum(file.size for file in gone)
        )
        if dry_run:
            return result
        marks = _marks(lake, snapshot, days, [file.path for file in gone])
        reach("retention.before_delete")
        partition = snapshot.contract.partition
        try:
            snapshot.delta.delete(f"{partition} < '{before}'", commit_properties=_properties(marks))
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(table, error) from None
        reach("retention.after_delete")
        return result
    raise LakeError(f"{table}: other writers leave no room for a commit", "Run it again; nothing was lost.")


def _marks(lake: Lake, snapshot: Snapshot, days: list[date], files: list[str]) -> list[Transaction]:
    """What the deleting commit counts: rows by date, messages of Bronze, levels of what is derived."""
    rows = snapshot.rows_by_date
    marks = [Transaction(expired_id(day), expired(snapshot, day) + rows.get(day, 0)) for day in days]
    if snapshot.contract.name in TRANSFORMS:
        return marks + [Transaction(level_id(day), snapshot.recorded_level(day) + 1) for day in days]
    sql = (
        "select count(*) from (select distinct topic, kafka_partition, kafka_offset from"
        f" ({select_files(snapshot.contract, files)}))"
    )
    with lake.reading(snapshot.contract.name) as connection:
        ((messages,),) = connection.execute(sql).fetchall()
    return [*marks, Transaction(EXPIRED_MESSAGES, (snapshot.transaction(EXPIRED_MESSAGES) or 0) + messages)]


def _properties(marks: list[Transaction]) -> CommitProperties:
    """On exactly the version that was looked at: whoever was faster, we look again."""
    return CommitProperties(app_transactions=marks, max_commit_retries=0)


def _committed(lake: Lake, snapshot: Snapshot, marks: list[Transaction]) -> bool:
    """Commit transactions without data; False where somebody was faster."""
    partition: Any = snapshot.contract.partition
    try:
        snapshot.delta.create_write_transaction(
            [], mode="append", schema=snapshot.delta.schema(), partition_by=[partition], commit_properties=_properties(marks)
        )
    except CommitFailedError:
        return False
    except (DeltaError, OSError) as error:
        raise lake.unwritable(snapshot.contract.name, error) from None
    return True
