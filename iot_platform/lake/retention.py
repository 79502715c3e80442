"""Closed dates: before which event date nothing is made, or let in, any more (ADR 0012).

What belongs here: the mark itself, ``closed/before`` on ``bronze/readings``, and how long each layer is kept. What goes, and
why a date may not, stands in ``expiry``.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot

BRONZE = "bronze/readings"
CLOSED_BEFORE = "closed/before"  # Delta transaction: days since 1970-01-01 of the first date that is open; only grows
FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC).date()


def closed_number(day: date) -> int:
    """A date as the transaction's version has it."""
    return (day - FIRST_DAY).days


def closed_date(number: int | None) -> date | None:
    """The date that the transaction's version stands for; None where nothing was ever closed."""
    return None if number is None else FIRST_DAY + timedelta(days=number)


def closed_before(lake: Lake) -> date | None:
    """The first open event date (UTC): dates before it are closed. None: every date is open."""
    return closed_before_of(lake.snapshot(BRONZE))


def closed_before_of(bronze: Snapshot) -> date | None:
    """The same, as this version of ``bronze/readings`` says it."""
    return closed_date(bronze.transaction(CLOSED_BEFORE))
