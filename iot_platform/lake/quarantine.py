"""The quarantine as people work with it: which messages wait there, how many and why, and one of them whole.

What belongs here: reading ``bronze/quarantine`` and the terms by which messages are chosen. Parsing them again is
``ingest.redrive``'s. Dates are those of arrival (UTC), as the table is partitioned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import QUARANTINE_REASONS
from iot_platform.errors import InputError
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot

QUARANTINE = "bronze/quarantine"
Grouping = Literal["reason", "date", "topic"]
_GROUPED: Mapping[Grouping, str] = {"reason": "reason", "date": "event_date", "topic": "topic"}


class MessageId(NamedTuple):
    """Where a message stands in Kafka: what it is called here, written ``topic/partition/offset``."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> MessageId:
        """Read the written form; anything else is an ``InputError``."""
        topic, partition, offset = [*text.rsplit("/", 2), "", ""][:3]
        if not (topic and _is_number(partition) and _is_number(offset)):
            raise InputError(f"{text!r} names no message", "Write topic/partition/offset, as `iot quarantine list` shows.")
        return cls(topic, int(partition), int(offset))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


@dataclass(frozen=True)
class Chosen:
    """Which messages are meant; what is empty or None leaves that open. ``first`` … ``last``: dates of arrival (UTC), both
    included. ``with_redriven``: also those that are in Bronze by now."""

    reasons: frozenset[str] = frozenset()
    first: date | None = None
    last: date | None = None
    topics: frozenset[str] = frozenset()
    ids: frozenset[MessageId] = frozenset()
    with_redriven: bool = False

    def __post_init__(self) -> None:
        for reason in sorted(self.reasons - set(QUARANTINE_REASONS)):
            raise InputError(f"there is no reason {reason!r}", f"Reasons: {', '.join(QUARANTINE_REASONS)}")

    def takes_day(self, day: date | None) -> bool:
        return day is not None and (self.first is None or self.first <= day) and (self.last is None or day <= self.last)

    @property
    def where(self) -> tuple[str, dict[str, Any]]:
        """The same as an SQL condition and its parameters, but for the dates, which choose files."""
        conditions = ["true"] if self.with_redriven else ["redriven_at is null"]
        parameters: dict[str, Any] = {}
        for column, values in (("reason", self.reasons), ("topic", self.topics)):
            if values:
                conditions.append(f"list_contains(${column}, {column})")
                parameters[column] = sorted(values)
        if self.ids:
            # The coordinates one by one too, so that files and row groups are skipped by their statistics.
            conditions.append("list_contains($ids, topic || '/' || kafka_partition || '/' || kafka_offset)")
            conditions.append("kafka_offset between $lowest and $highest")
            parameters["ids"] = sorted(map(str, self.ids))
            parameters["lowest"] = min(one.offset for one in self.ids)
            parameters["highest"] = max(one.offset for one in self.ids)
        return " and ".join(conditions), parameters


class Held(NamedTuple):
    """One quarantined message without its payload. ``size``: bytes of the value, None for a tombstone of Kafka."""

    id: MessageId
    reason: str
    detail: str
    arrived_at: datetime
    size: int | None
    quarantined_at: datetime
    redriven_at: datetime | None


@dataclass(frozen=True)
class Message:
    """One quarantined message, whole."""

    held: Held
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = field(default_factory=tuple)


class Count(NamedTuple):
    """How many messages a reason, a date or a topic has: still waiting, and redriven."""

    group: str
    waiting: int
    redriven: int
    newest_at: datetime


_HELD = (
    "topic, kafka_partition, kafka_offset, reason, detail, kafka_timestamp, octet_length(value), quarantined_at, redriven_at"
)


def messages(lake: Lake, chosen: Chosen, limit: int = 0) -> list[Held]:
    """The chosen messages, newest arrival first, at most ``limit`` (0: all)."""
    order = "order by kafka_timestamp desc, topic, kafka_partition, kafka_offset desc"
    rows = _ask(lake, chosen, f"select {_HELD}", order + (f" limit {int(limit)}" if limit else ""))
    return [_held(row) for row in rows]


def counts(lake: Lake, chosen: Chosen, by: Grouping) -> list[Count]:
    """How many of the chosen messages there are by reason, date of arrival or topic; dates in order, else most first."""
    column = _GROUPED[by]
    select = (
        f"select {column}::varchar, count(*) filter (where redriven_at is null), count(redriven_at), max(kafka_timestamp)"
    )
    order = "order by 1" if by == "date" else "order by 2 desc, 3 desc, 1"
    return [Count(*row) for row in _ask(lake, chosen, select, f"group by {column} {order}")]


def message(lake: Lake, wanted: MessageId) -> Message:
    """One message with key, value and headers; an ``InputError`` when quarantine has none of this id."""
    chosen = Chosen(ids=frozenset([wanted]), with_redriven=True)
    rows = _ask(lake, chosen, f"select {_HELD}, key, value, headers", "limit 1")
    if not rows:
        raise InputError(f"quarantine holds no message {wanted}", "See `iot quarantine list --all`.")
    *held, key, value, headers = rows[0]
    return Message(_held(held), key, value, [(one["key"], one["value"]) for one in headers or ()])


def _held(row: Sequence[Any]) -> Held:
    topic, partition, offset, *rest = row
    return Held(MessageId(topic, partition, offset), *rest)


def _ask(lake: Lake, chosen: Chosen, select: str, rest: str) -> list[tuple[Any, ...]]:
    if not lake.exists(QUARANTINE):
        return []
    snapshot = lake.snapshot(QUARANTINE)
    files = chosen_files(snapshot, chosen)
    if not files:
        return []
    where, parameters = chosen.where
    with lake.reading(QUARANTINE) as connection:
        source = select_files(snapshot.contract, files)
        return connection.execute(f"{select} from ({source}) where {where} {rest}", parameters).fetchall()


def chosen_files(snapshot: Snapshot, chosen: Chosen) -> list[str]:
    """The data files of the chosen dates."""
    return snapshot.files([file.day for file in snapshot.active if file.day and chosen.takes_day(file.day)])
