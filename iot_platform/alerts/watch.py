"""One look of the alerts: gather, decide, write the book, tell the channels, write what they were told.

The book is written before anybody is told and again after: a crash in between repeats a message and loses none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from iot_platform.alerts.book import Book, copy_to_table, read_book, write_book
from iot_platform.alerts.channels import Channel, Delivery, configured, deliver
from iot_platform.alerts.conditions import Bounds, look
from iot_platform.alerts.gather import Gatherer
from iot_platform.alerts.incidents import Incident, Told, advance
from iot_platform.alerts.memory import Memory
from iot_platform.alerts.messages import Message, news
from iot_platform.errors import PlatformError
from iot_platform.settings import Settings

Deliver = Callable[[Mapping[Channel, Message]], list[Delivery]]
News = tuple[Literal["opened", "recovered"], Incident]


@dataclass(frozen=True)
class Look:
    """What one look did, and the memory for the next."""

    memory: Memory
    opened: int = 0
    ended: int = 0
    still_open: int = 0
    deliveries: Sequence[Delivery] = ()
    problems: Sequence[str] = ()

    @property
    def told(self) -> str:
        """In one line, for the sensor's tick."""
        parts = [f"{self.still_open} incident(s) open"]
        parts += [f"{self.opened} new"] * bool(self.opened) + [f"{self.ended} over"] * bool(self.ended)
        parts += [f"{one.channel}: {one.error or 'told'}" for one in self.deliveries]
        waiting = [f"{name} paused until {pause.until[:19]}" for name, pause in self.memory.pauses.items()]
        return "; ".join([*parts, *waiting, *self.problems])


def watch(
    gatherer: Gatherer, settings: Settings, memory: Memory, now: datetime, send: Deliver = deliver
) -> Look:
    """One look at ``now``. Raises ``PlatformError`` when the book cannot be written; nobody is told then."""
    bounds = Bounds.of(settings)
    facts, checks_seen = gatherer.look(now, memory.checks_seen, bounds.forget)
    memory = replace(memory.follow(facts, bounds.lag_records), checks_seen=checks_seen)
    book = read_book(settings)
    findings, unknown = look(facts, memory, book.incidents, bounds)
    incidents = advance(book.incidents, findings, unknown, now, calm=bounds.calm, forget=bounds.forget)
    opened = len(incidents) - len(book.incidents)
    ended = sum(not one.is_open for one in incidents) - sum(not one.is_open for one in book.incidents)
    book = _written(settings, book, incidents)
    memory, told, deliveries = tell(settings, memory, book.incidents, now, send)
    book = _written(settings, book, told)
    problems = [*facts.problems]
    try:
        copied = copy_to_table(gatherer.lake, book).without_old(now)
        if copied != book:
            write_book(settings, copied)
    except PlatformError as error:
        problems.append(f"ops/incidents is not up to date: {error}")
    return Look(memory, opened, ended, sum(one.is_open for one in incidents), deliveries, problems)


def _written(settings: Settings, book: Book, incidents: Sequence[Incident]) -> Book:
    if list(incidents) == list(book.incidents):
        return book
    changed = replace(book, incidents=list(incidents))
    write_book(settings, changed)
    return changed


def tell(
    settings: Settings, memory: Memory, incidents: Sequence[Incident], now: datetime, send: Deliver = deliver
) -> tuple[Memory, list[Incident], list[Delivery]]:
    """Tell each channel, in one message, what it does not know yet; one that failed is left alone for its pause."""
    news_by: dict[str, list[News]] = {}
    messages: dict[Channel, Message] = {}
    for channel in configured(settings):
        due: list[News] = [(what, one) for one in incidents if (what := one.news_for(channel.name))]
        if due and memory.may_send(channel.name, now):
            news_by[channel.name] = due
            messages[channel] = news(due, settings.dagster_url, now)
    deliveries = send(messages) if messages else []
    after = {one.incident_id: one for one in incidents}
    for delivery in deliveries:
        is_delivered = delivery.is_delivered
        memory = memory.succeeded(delivery.channel) if is_delivered else memory.failed(delivery.channel, now)
        for what, incident in news_by[delivery.channel]:
            current = after[incident.incident_id]
            told = current.told.get(delivery.channel, Told())
            told = replace(told, **{what: now}, error="") if is_delivered else replace(told, error=delivery.error)
            after[incident.incident_id] = replace(current, told={**current.told, delivery.channel: told})
    return memory, list(after.values()), deliveries


