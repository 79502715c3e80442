"""Sending the daily summary: each date once a channel, whoever asks how often; what failed is tried again by the sensor.

What was sent stands as Delta transactions in ``ops/incidents``: ``summary/<channel>`` is the newest date that a channel
has, ``summary/wanted`` the newest that did not reach all of them. A report that is made again, or of an old date, sends
nothing.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from iot_platform.alerts.channels import Channel, Delivery, configured
from iot_platform.alerts.memory import Memory
from iot_platform.alerts.messages import summary_message
from iot_platform.alerts.outbox import Outbox, deliver
from iot_platform.contracts.tables import INCIDENTS
from iot_platform.errors import PlatformError
from iot_platform.lake.lake import Lake
from iot_platform.reports.daily import DailySummary, daily_summary
from iot_platform.settings import Settings

WANTED = "summary/wanted"
WORTH_DAYS = 2  # an older date is news no more: reports that are filled in flood nobody


def send_summary(settings: Settings, summary: DailySummary, now: datetime | None = None) -> list[Delivery]:
    """Send the summary by every configured channel that does not have it, or a later one, yet.

    A date that is not over at ``now`` (default: the clock's) is not sent, nor one of long ago. Returns what became of it,
    one a channel. Takes at most a minute, with a slow server, and raises ``LakeError`` only when it cannot be noted. A
    channel that fails is tried again by the sensor ``alerts``.
    """
    channels = configured(settings)
    if not channels or not _is_news(summary.day, now or datetime.now(UTC)):
        return []
    lake = Lake(settings)
    waiting = _waiting(lake, channels, summary.day)
    deliveries = deliver(dict.fromkeys(waiting, summary_message(summary, settings.dagster_url)))
    _note_delivered(lake, deliveries)
    if not all(one.is_delivered for one in deliveries):
        # Noted after the attempt: the sensor, which looks meanwhile, would send it a second time.
        _note(lake, WANTED, summary.day)
    return deliveries


def retry_summary(
    lake: Lake, settings: Settings, memory: Memory, now: datetime, outbox: Outbox
) -> tuple[Memory, list[str]]:
    """Send the wanted summary to the channels that could not be reached; the memory after, and what happened in words.

    ``outbox``: summaries that this process has under way.
    """
    deliveries, problems = outbox.ended(), list[str]()
    try:
        _note_delivered(lake, deliveries)
        channels = [one for one in configured(settings) if memory.may_send(one.name, now) and not outbox.is_busy(one.name)]
        if channels and not deliveries:
            deliveries = _retried(lake, settings, channels, now, outbox)
    except PlatformError as error:
        problems.append(f"summary: {error}")
    for one in deliveries:
        if not one.is_under_way:
            memory = memory.succeeded(one.channel) if one.is_delivered else memory.failed(one.channel, now)
    said = [f"summary of {_day(one)} by {one.channel}: {one.error or one.note or 'sent'}" for one in deliveries]
    return memory, said + problems


def _retried(
    lake: Lake, settings: Settings, channels: list[Channel], now: datetime, outbox: Outbox
) -> list[Delivery]:
    wanted = lake.snapshot(INCIDENTS.name).transaction(WANTED)
    day = date.fromordinal(wanted) if wanted else None
    if day is None or not _is_news(day, now):
        return []
    waiting = _waiting(lake, channels, day)
    if not waiting:
        return []
    deliveries = outbox.send(dict.fromkeys(waiting, summary_message(daily_summary(lake, day), settings.dagster_url)))
    _note_delivered(lake, deliveries)
    return deliveries


def _is_news(day: date, now: datetime) -> bool:
    return timedelta(0) < now.date() - day <= timedelta(days=WORTH_DAYS)


def _waiting(lake: Lake, channels: list[Channel], day: date) -> list[Channel]:
    snapshot = lake.snapshot(INCIDENTS.name)
    return [one for one in channels if (snapshot.transaction(f"summary/{one.name}") or 0) < day.toordinal()]


def _note_delivered(lake: Lake, deliveries: list[Delivery]) -> None:
    for one in deliveries:
        if one.is_delivered:
            _note(lake, f"summary/{one.channel}", _day(one))


def _day(delivery: Delivery) -> date:
    ((_, day),) = delivery.message.about
    return date.fromisoformat(day)


def _note(lake: Lake, app_id: str, day: date) -> None:
    snapshot = lake.writable(INCIDENTS.name)
    if (snapshot.transaction(app_id) or 0) < day.toordinal():
        lake.commit_transaction(snapshot, app_id, day.toordinal())
