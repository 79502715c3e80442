"""How long each layer is kept, and which dates are closed for good (ADR 0012).

A date closes when its Bronze is about to expire: from then on nothing makes it again and no reading of it is let in. What
belongs here: the periods and the mark, ``closed/before`` on ``bronze/readings``. What goes, and why a date may not yet,
stands in ``expiry``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from iot_platform.contracts.tables import TABLES
from iot_platform.errors import InputError
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS

BRONZE = "bronze/readings"
CLOSED_BEFORE = "closed/before"  # Delta transaction: days since 1970-01-01 of the first date that is open; only grows
EXPIRED_MESSAGES = "expired/messages"  # Delta transaction on both Bronze tables: messages whose rows have expired
FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC).date()
DAY = timedelta(days=1)


def expired_id(day: date) -> str:
    """The Delta transaction that counts the rows of a date that have expired in a table."""
    return f"expired/{day.isoformat()}"


def expired(snapshot: Snapshot, day: date) -> int:
    """How many rows of the date have expired in this table."""
    return snapshot.transaction(expired_id(day)) or 0


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


def look_back(layer: str) -> int:
    """How many days further back than a date itself what is made of a layer reads it."""
    return max(
        (
            source.look_back
            for transform in TRANSFORMS.values()
            for source in transform.inputs
            if TABLES[transform.table].partition and TABLES[source.table].partition and TABLES[source.table].layer == layer
        ),
        default=0,
    )


@dataclass(frozen=True)
class Periods:
    """Days that each layer is kept, counted from today (UTC); 0: for ever. Quarantine's count from the arrival."""

    bronze: int = 0
    silver: int = 0
    quarantine: int = 0
    gold: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Periods:
        """What the settings say. Raises ``InputError`` where an open date could no longer be made from what is left."""
        kept = cls(
            settings.keep_bronze_days, settings.keep_silver_days, settings.keep_quarantine_days, settings.keep_gold_days
        )
        for layer, days, margin in (("SILVER", kept.silver, look_back("silver")), ("GOLD", kept.gold, look_back("gold"))):
            least = kept.bronze + margin
            if days and not kept.bronze:
                raise InputError(
                    f"IOT_KEEP_{layer}_DAYS={days}, but Bronze is kept for ever: its dates stay open and may be made again",
                    f"Set IOT_KEEP_BRONZE_DAYS (at most {max(days - margin, 0)}) too, or IOT_KEEP_{layer}_DAYS=0",
                )
            if days and days < least:
                raise InputError(
                    f"IOT_KEEP_{layer}_DAYS={days} is too short: open dates are made from up to {least} days of it",
                    f"Keep it for {least} days or more (Bronze's {kept.bronze} and a look-back of {margin}), or 0 for ever",
                )
        return kept

    def closes(self, today: date) -> date | None:
        """Which dates are to be closed: those before this one."""
        return today - DAY * self.bronze if self.bronze else None

    def ends(self, table: str, today: date) -> date | None:
        """Which dates of a table have had their time: those before this one. None: it is kept for ever.

        Bronze stays as long as an open date looks back on it. Silver goes by whole weeks (from Monday on), so that what is
        made of its weeks is never made of a part of one.
        """
        layer = TABLES[table].layer
        if table == BRONZE:
            return today - DAY * (self.bronze + look_back("bronze")) if self.bronze else None
        days = {"bronze": self.quarantine, "silver": self.silver, "gold": self.gold}.get(layer, 0)
        if not days or TABLES[table].partition is None:
            return None
        end = today - DAY * days
        return end - DAY * end.weekday() if layer == "silver" else end
