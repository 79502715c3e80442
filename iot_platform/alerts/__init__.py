"""Alerts: what is wrong is told once, and its end once, by Slack and e-mail; the daily summary goes the same ways.

Facts are gathered (``gather``), judged by pure conditions (``conditions``), kept as incidents (``incidents``, ``book``) and
told (``messages``, ``channels``). The sensor in ``sensor`` does this twice a minute. See docs/alerts.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from iot_platform.alerts.channels import Delivery
    from iot_platform.reports.daily import DailySummary
    from iot_platform.settings import Settings


def send_summary(settings: Settings, summary: DailySummary, now: datetime | None = None) -> list[Delivery]:
    """Send a daily summary by every configured channel that does not have it yet; see ``alerts.summary``."""
    from iot_platform.alerts.summary import send_summary as send

    return send(settings, summary, now)
