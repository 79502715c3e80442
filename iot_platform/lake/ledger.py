"""The conservation ledger: what came in stands against what came out, per date and per Kafka offset. Nothing vanishes.

Per date: bronze = silver + rejected + pending (+ erased and expired, once there are such). Per offset: every consumed
record is in Bronze or in quarantine, exactly once. ``iot status``, the demo and the asset check all read it from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from iot_platform.contracts.duckdb import select_files
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels
from iot_platform.lake.retention import EXPIRED_MESSAGES, expired
from iot_platform.lake.snapshot import ERASED_MESSAGES, Snapshot
from iot_platform.lake.stream_log import stream_commits

BRONZE, SILVER, REJECTED, QUARANTINE = (
    "bronze/readings", "silver/readings", "silver/rejected_readings", "bronze/quarantine",
)  # fmt: skip

Place = tuple[str, int]  # topic and partition
REDRIVEN = "redriven/messages"
"""The Delta transaction on Bronze that counts the messages ever redriven, in the commit that brings them. So the ledger
balances between Bronze's commit and quarantine's mark, goes on balancing when one of a message's two rows is deleted later,
and does not balance when a message stands in both tables for any other reason."""


@dataclass(frozen=True)
class DateLedger:
    """One event date in rows. ``bronze``: with those that were erased from it; ``pending``: in Bronze, and its Silver not
    yet made from it; ``erased``: in Silver no longer, since their device was erased."""

    event_date: date
    bronze: int
    silver: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    erased: int = 0
    expired: int = 0

    @property
    def difference(self) -> int:
        """Rows of Bronze that are nowhere (above 0), or rows that Bronze never had (below 0)."""
        return self.bronze + self.expired - self.silver - sum(self.rejected.values()) - self.pending - self.erased

    @property
    def is_balanced(self) -> bool:
        return self.difference == 0

    def as_json(self) -> dict[str, Any]:
        return {
            "event_date": self.event_date.isoformat(),
            "bronze": self.bronze,
            "silver": self.silver,
            "rejected": dict(self.rejected),
            "pending": self.pending,
            "erased": self.erased,
            "expired": self.expired,
            "balanced": self.is_balanced,
        }


@dataclass(frozen=True)
class OffsetLedger:
    """All Kafka records that were consumed. A redriven one stands in quarantine and in Bronze.

    ``without_record``: offsets among them that held none: marks and aborted messages of transactions, messages that expired
    unread and were given up by ``--accept-loss``. Not part of the balance, but never silent.
    """

    consumed: int
    bronze_messages: int
    quarantined: int
    redriven: int = 0
    erased: int = 0
    expired: int = 0
    without_record: int = 0

    @property
    def difference(self) -> int:
        """Records that are nowhere (above 0), or more than were consumed (below 0)."""
        return self.consumed - (self.bronze_messages + self.quarantined - self.redriven + self.erased + self.expired)

    @property
    def is_balanced(self) -> bool:
        return self.difference == 0

    def as_json(self) -> dict[str, Any]:
        return {
            "consumed": self.consumed,
            "bronze_messages": self.bronze_messages,
            "quarantined": self.quarantined,
            "redriven": self.redriven,
            "erased": self.erased,
            "expired": self.expired,
            "without_record": self.without_record,
            "balanced": self.is_balanced,
        }


def date_ledger(lake: Lake, days: Iterable[date] | None = None, levels: Levels | None = None) -> list[DateLedger]:
    """The ledger of these dates, or of all that Bronze or Silver know, oldest first."""
    levels = levels or Levels(lake)
    # Bronze last: a batch that lands meanwhile is pending then, and not a row that Bronze never had.
    silver, rejected, bronze = (levels.snapshot(table) for table in (SILVER, REJECTED, BRONZE))
    known = set(bronze.rows_by_date) | set(silver.rows_by_date) | set(rejected.rows_by_date)
    # What was erased of a date stands in the books as long as anything is left of the date.
    open_from = levels.closed_before or date.min
    erased_days = bronze.erased_days | silver.erased_days | rejected.erased_days
    known |= {day for day in erased_days if day >= open_from}
    wanted = sorted(known if days is None else set(days))
    reasons = _rejected_by_reason(lake, rejected, wanted)
    lines = [
        DateLedger(
            day,
            bronze.rows_by_date.get(day, 0) + bronze.erased(day),
            silver.rows_by_date.get(day, 0),
            reasons.get(day, {}),
            erased=silver.erased(day) + rejected.erased(day),
            expired=_expired(levels, day),
        )
        for day in wanted
    ]
    unequal = [line.event_date for line in lines if line.difference]
    if unequal:
        stale = levels.stale(unequal)
        # A date that a rollback holds is as it was made from fewer rows, or by other rules: the difference waits with it.
        waiting = {*stale[SILVER], *stale[REJECTED], *silver.held_days, *rejected.held_days}
        # The two tables of Silver are committed one after the other: while one of them is older than its inputs, what is
        # in neither is pending (below 0: in both, as after bounds were changed). Once both are up to date it is wrong,
        # and the ledger says so.
        lines = [
            replace(line, pending=line.difference) if line.event_date in waiting else line
            for line in lines
        ]
    return lines


def _expired(levels: Levels, day: date) -> int:
    """Rows of Bronze that have expired while Silver still has what was made of them; 0 once that has expired too."""
    if not levels.closed_before or day >= levels.closed_before:
        return 0
    bronze, silver, rejected = (expired(levels.snapshot(table), day) for table in (BRONZE, SILVER, REJECTED))
    return bronze - silver - rejected


def _rejected_by_reason(lake: Lake, rejected: Snapshot, days: list[date]) -> dict[date, dict[str, int]]:
    files = rejected.files(days)
    found: dict[date, dict[str, int]] = {}
    if files:
        source = select_files(rejected.contract, files)
        sql = f"select event_date, reason, count(*) from ({source}) group by all order by all"
        for day, reason, rows in _fetch(lake, rejected, sql):
            found.setdefault(day, {})[reason] = rows
    return found


def offset_ledger(lake: Lake) -> OffsetLedger:
    """The ledger of Kafka records, over everything that was ever consumed."""
    bronze, quarantine = lake.snapshot(BRONZE), lake.snapshot(QUARANTINE)
    landed, held = _offsets(lake, bronze), _offsets(lake, quarantine)
    commits = [commit.metadata for commit in stream_commits(bronze.delta)]
    records = consumed(commits, landed, held)
    return OffsetLedger(
        consumed=records,
        bronze_messages=sum(messages for _, messages in landed.values()),
        quarantined=quarantine.rows,
        redriven=bronze.transaction(REDRIVEN) or 0,
        erased=sum(table.transaction(ERASED_MESSAGES) or 0 for table in (bronze, quarantine)),
        expired=sum(table.transaction(EXPIRED_MESSAGES) or 0 for table in (bronze, quarantine)),
        without_record=offsets_taken(commits, landed, held) - records,
    )


def consumed(commits: Sequence[Mapping[str, Any]], *landed: Mapping[Place, tuple[int, int]]) -> int:
    """Data records that the stream took from Kafka, by what its commits say (newest first) and not by rows.

    Each commit says how many records Kafka held of its offsets. Those that were made before it did say how many were landed,
    which is too many where a batch was taken again for one of the two tables; offsets, where transactions put control
    records between the data. Neither counts too few, so the smaller one is right. ``landed``: per place the lowest offset
    that has rows, for commits that were cleaned away.
    """
    total, known = offsets_taken(commits, *landed), consumed_ranges(commits, *landed)
    told = all(known[place][0] >= first for place, (first, _) in told_ranges(commits).items())
    if not told or not all("messages" in commit for commit in commits):
        return total
    seen = sum(int(commit.get("records", commit["messages"])) for commit in commits)
    return seen if all("records" in commit for commit in commits) else min(total, seen)


def offsets_taken(commits: Sequence[Mapping[str, Any]], *landed: Mapping[Place, tuple[int, int]]) -> int:
    """Offsets that the stream went over, whether or not there was a record: from the first to the last of each place."""
    return sum(until - first for first, until in consumed_ranges(commits, *landed).values())


def told_ranges(commits: Iterable[Mapping[str, Any]]) -> dict[Place, tuple[int, int]]:
    """Per place the offsets, first … until (not included), that the commits say they took."""
    ranges: dict[Place, tuple[int, int]] = {}
    for commit in commits:
        for topic, partitions in (commit.get("offsets") or {}).items():
            for partition, (first, until) in partitions.items():
                place = (topic, int(partition))
                known = ranges.get(place, (first, until))
                ranges[place] = (min(known[0], first), max(known[1], until))
    return ranges


def consumed_ranges(
    commits: Iterable[Mapping[str, Any]], *landed: Mapping[Place, tuple[int, int]]
) -> dict[Place, tuple[int, int]]:
    """As ``told_ranges``, and from the lowest offset on that has rows, where older commits were cleaned away."""
    return {
        place: (min([first, *(side[place][0] for side in landed if place in side)]), until)
        for place, (first, until) in told_ranges(commits).items()
    }


def taken(lake: Lake) -> dict[Place, tuple[int, int]]:
    """Per place the offsets that were ever consumed, first … until (not included)."""
    bronze, quarantine = lake.snapshot(BRONZE), lake.snapshot(QUARANTINE)
    commits = [commit.metadata for commit in stream_commits(bronze.delta)]
    return consumed_ranges(commits, _offsets(lake, bronze), _offsets(lake, quarantine))


def _offsets(lake: Lake, snapshot: Snapshot) -> dict[Place, tuple[int, int]]:
    """Per topic and partition: the lowest offset that landed, and how many messages did."""
    if not snapshot.rows:
        return {}
    source = select_files(snapshot.contract, snapshot.files())
    sql = f"select topic, kafka_partition, min(kafka_offset), count(distinct kafka_offset) from ({source}) group by all"
    return {(topic, partition): (lowest, messages) for topic, partition, lowest, messages in _fetch(lake, snapshot, sql)}


def _fetch(lake: Lake, snapshot: Snapshot, sql: str) -> list[tuple[Any, ...]]:
    with lake.reading(snapshot.contract.name) as connection:
        return connection.execute(sql).fetchall()
