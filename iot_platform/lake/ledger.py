"""The conservation ledger: what came in stands against what came out, per date and per Kafka offset. Nothing vanishes.

Per date: bronze = silver + rejected + pending (+ erased and expired, once there are such). Per offset: every consumed
record is in Bronze or in quarantine, exactly once. ``iot status``, the demo and the asset check all read it from here.
Both are of one moment (``moment``): whoever commits while they are made changes nothing in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from iot_platform.contracts.duckdb import select_files
from iot_platform.lake.consumption import Place, consumed, consumed_ranges, offsets_taken
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels
from iot_platform.lake.moment import LOOKS, at_one_moment, no_moment
from iot_platform.lake.retention import EXPIRED_MESSAGES, expired
from iot_platform.lake.snapshot import ERASED_MESSAGES, Snapshot
from iot_platform.lake.stream_log import Summarized, last_stream_commit, stream_commits

BRONZE, SILVER, REJECTED, QUARANTINE = (
    "bronze/readings", "silver/readings", "silver/rejected_readings", "bronze/quarantine",
)  # fmt: skip

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
    unread and were given up by ``--accept-loss``. Not part of the balance, but never silent. ``landing``: refused messages
    of a batch that Bronze has and quarantine has not yet, as every batch is between its two commits.
    """

    consumed: int
    bronze_messages: int
    quarantined: int
    redriven: int = 0
    erased: int = 0
    expired: int = 0
    landing: int = 0
    without_record: int = 0

    @property
    def difference(self) -> int:
        """Records that are nowhere (above 0), or more than were consumed (below 0)."""
        gone = self.erased + self.expired
        return self.consumed - (self.bronze_messages + self.quarantined - self.redriven + gone + self.landing)

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
            "landing": self.landing,
            "without_record": self.without_record,
            "balanced": self.is_balanced,
        }


def date_ledger(lake: Lake, days: Iterable[date] | None = None) -> list[DateLedger]:
    """The ledger of these dates, or of all that Bronze or Silver know, oldest first."""
    # The registries are opened afterwards: a date may be stale by them and wait, but is never wrong by them.
    silver, rejected, bronze = at_one_moment(lake, SILVER, REJECTED, BRONZE)
    levels = Levels(lake, {SILVER: silver, REJECTED: rejected, BRONZE: bronze})
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
            replace(line, pending=line.difference if line.event_date in waiting else _in_erasure(levels, line))
            for line in lines
        ]
    return lines


def _in_erasure(levels: Levels, line: DateLedger) -> int:
    """Rows that an erasure took from Bronze and has not counted in Silver yet, where a run made the date again between its
    two commits: no more than that are missed until the second one."""
    silver, rejected, bronze = (levels.snapshot(table).erased(line.event_date) for table in (SILVER, REJECTED, BRONZE))
    return max(0, min(line.difference, bronze - silver - rejected))


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


@dataclass(frozen=True)
class Books:
    """Both Bronze tables as they stood at one moment, and what the stream's commits had said by then, newest first."""

    bronze: Snapshot
    quarantine: Snapshot
    commits: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, lake: Lake) -> Books:
        """As they stand now. Raises ``LakeError`` where other writers leave no moment to look."""
        for _ in range(LOOKS):
            bronze, quarantine = at_one_moment(lake, BRONZE, QUARANTINE)
            try:
                return cls(bronze, quarantine, [commit.metadata for commit in stream_commits(bronze.delta)])
            except Summarized:
                continue
        raise no_moment(BRONZE)


def offset_ledger(lake: Lake, books: Books | None = None) -> OffsetLedger:
    """The ledger of Kafka records, over everything that was ever consumed; ``books``: of that moment, else of now."""
    books = books or Books.of(lake)
    bronze, quarantine = books.bronze, books.quarantine
    landed, held = _offsets(lake, bronze), _offsets(lake, quarantine)
    records = consumed(books.commits, landed, held)
    ledger = OffsetLedger(
        consumed=records,
        bronze_messages=sum(messages for _, messages in landed.values()),
        quarantined=quarantine.rows,
        redriven=bronze.transaction(REDRIVEN) or 0,
        erased=sum(table.transaction(ERASED_MESSAGES) or 0 for table in (bronze, quarantine)),
        expired=sum(table.transaction(EXPIRED_MESSAGES) or 0 for table in (bronze, quarantine)),
        without_record=offsets_taken(books.commits, landed, held) - records,
    )
    if ledger.difference > 0:
        ledger = replace(ledger, landing=min(ledger.difference, _landing(lake, books)))
    return ledger


def _landing(lake: Lake, books: Books) -> int:
    """How many offsets beyond quarantine's end were taken and are no readings: what it is about to get, at the most."""
    ends = (last_stream_commit(books.quarantine.delta) or {}).get("ends") or {}
    beyond: dict[Place, tuple[int, int]] = {}
    for (topic, partition), (first, until) in consumed_ranges(books.commits).items():
        end = max(first, int(ends.get(topic, {}).get(str(partition), 0)))
        if end < until:
            beyond[topic, partition] = end, until
    if not beyond:
        return 0
    landed = _offsets(lake, books.bronze, {place: end for place, (end, _) in beyond.items()})
    return sum(until - end - landed.get(place, (0, 0))[1] for place, (end, until) in beyond.items())


def taken(lake: Lake, books: Books) -> dict[Place, tuple[int, int]]:
    """Per place the offsets that were ever consumed, first … until (not included)."""
    return consumed_ranges(books.commits, _offsets(lake, books.bronze), _offsets(lake, books.quarantine))


def _offsets(lake: Lake, snapshot: Snapshot, since: Mapping[Place, int] | None = None) -> dict[Place, tuple[int, int]]:
    """Per topic and partition: the lowest offset that landed, and how many messages did; ``since``: of these places, from
    these offsets on."""
    if not snapshot.rows:
        return {}
    files = snapshot.files() if since is None else snapshot.files_above("kafka_offset", min(since.values()) - 1)
    source = select_files(snapshot.contract, files)
    named = [(topic, partition, offset) for (topic, partition), offset in (since or {}).items()]
    places = " or ".join(["(topic = ? and kafka_partition = ? and kafka_offset >= ?)"] * len(named)) or "true"
    columns = "topic, kafka_partition, min(kafka_offset), count(distinct kafka_offset)"
    sql = f"select {columns} from ({source}) where {places} group by all"
    found = _fetch(lake, snapshot, sql, [value for place in named for value in place])
    return {(topic, partition): (lowest, messages) for topic, partition, lowest, messages in found}


def _fetch(lake: Lake, snapshot: Snapshot, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with lake.reading(snapshot.contract.name) as connection:
        return connection.execute(sql, list(values)).fetchall()
