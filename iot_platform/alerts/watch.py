"""One look of the alerts: gather, decide, write the book, tell the channels, write what they were told.

The book is written before anybody is told and again after: a crash in between repeats a message and loses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from iot_platform.alerts.book import Book, copy_to_table, open_book, write_book
from iot_platform.alerts.channels import Channel, Delivery, configured
from iot_platform.alerts.conditions import Bounds, look
from iot_platform.alerts.gather import Gatherer
from iot_platform.alerts.incidents import Incident, Told, advance
from iot_platform.alerts.memory import Memory
from iot_platform.alerts.messages import Message, news
from iot_platform.alerts.outbox import UNDER_WAY, Outbox
from iot_platform.errors import PlatformError
from iot_platform.settings import Settings

PAUSED = "paused"
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
        parts += [f"{one.channel}: {one.told}" for one in self.deliveries]
        waiting = [f"{name} paused until {pause.until[:19]}" for name, pause in self.memory.pauses.items()]
        return "; ".join([*parts, *waiting, *self.problems])


def watch(
    gatherer: Gatherer, settings: Settings, memory: Memory, now: datetime, outbox: Outbox | None = None
) -> Look:
    """One look at ``now``. Raises ``PlatformError`` when the book cannot be written; nobody is told then.

    ``outbox``: messages that this process has under way; without one, what is slow to arrive is sent again.
    """
    bounds = Bounds.of(settings)
    book, restored = open_book(settings, gatherer.lake, now)
    failed = [one.run_id for one in book.incidents if one.is_open and one.kind == "run_failure" and one.run_id]
    facts, checks_seen = gatherer.look(now, memory.checks_seen, bounds.forget, failed)
    memory = replace(memory.follow(facts, bounds.lag_records), checks_seen=checks_seen)
    sight = look(facts, memory, book.incidents, bounds)
    incidents = advance(
        book.incidents, sight.findings, sight.resolved, sight.unknown, now, calm=bounds.calm, forget=bounds.forget
    )
    opened = len(incidents) - len(book.incidents)
    ended = sum(not one.is_open for one in incidents) - sum(not one.is_open for one in book.incidents)
    book = _written(settings, book, incidents)
    memory, told, deliveries = tell(settings, memory, book.incidents, now, outbox or Outbox())
    book = _written(settings, book, told)
    problems = [*restored, *facts.problems]
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
    settings: Settings, memory: Memory, incidents: Sequence[Incident], now: datetime, outbox: Outbox
) -> tuple[Memory, list[Incident], list[Delivery]]:
    """Tell each channel, in one message, what it does not know yet; one that failed is left alone for its pause, and one
    that a message is under way by until its end is known."""
    ended = outbox.ended()
    memory, incidents = _noted(memory, incidents, ended, now)
    messages: dict[Channel, Message] = {}
    for channel in configured(settings):
        due: list[News] = [(what, one) for one in incidents if (what := one.news_for(channel.name))]
        if outbox.is_busy(channel.name) or not memory.may_send(channel.name, now):
            why = UNDER_WAY if outbox.is_busy(channel.name) else PAUSED
            waiting = {one.incident_id for _, one in due if channel.name not in one.told}
            incidents = [_but(one, channel.name, error=why) if one.incident_id in waiting else one for one in incidents]
        elif due:
            messages[channel] = news(due, settings.dagster_url, now)
    sent = outbox.send(messages) if messages else []
    memory, incidents = _noted(memory, incidents, sent, now)
    return memory, incidents, ended + sent


def _noted(
    memory: Memory, incidents: Sequence[Incident], deliveries: Sequence[Delivery], now: datetime
) -> tuple[Memory, list[Incident]]:
    """What the deliveries came to, in the memory and at the incidents they told of."""
    after = {one.incident_id: one for one in incidents}
    for delivery in deliveries:
        name = delivery.channel
        if not delivery.is_under_way:
            memory = memory.succeeded(name) if delivery.is_delivered else memory.failed(name, now)
        for what, incident_id, severity in delivery.message.about:
            if (one := after.get(incident_id)) is None:
                continue
            changed: dict[str, Any] = {"error": delivery.error or delivery.note}
            if delivery.is_delivered:
                changed |= {what: now} | ({"severity": severity} if what == "opened" else {})
            after[incident_id] = _but(one, name, **changed)
    return memory, list(after.values())


def _but(incident: Incident, channel: str, **changed: Any) -> Incident:
    """The incident, with this of what the channel was told."""
    told = replace(incident.told.get(channel, Told()), **changed)
    return replace(incident, told={**incident.told, channel: told})
