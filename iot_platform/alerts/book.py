"""The book of incidents: ``$IOT_HOME/alerts/incidents.json``; the table ``ops/incidents`` is its copy for analysts.

A file and not the table, because it has to work when the lake does not: an outage of the lake is just when people have to
be told, once. The copy is written when the book changed, and tried again at the next look when it could not be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from iot_platform.alerts.incidents import Incident, Told
from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import INCIDENTS
from iot_platform.lake.lake import Lake
from iot_platform.lake.query import as_json
from iot_platform.local.process import read_state, write_state
from iot_platform.settings import Settings

KEPT = timedelta(days=30)  # how long ended incidents stay in the book; the table keeps them for good
TIMES = ("opened_at", "cleared_at", "recovered_at")


@dataclass(frozen=True)
class Book:
    """The incidents, and the digest of what of them the table has."""

    incidents: Sequence[Incident] = ()
    copied: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([_plain(one) for one in self.incidents], sort_keys=True).encode()).hexdigest()[:16]

    def without_old(self, now: datetime) -> Book:
        """Without incidents that ended long ago; not before the table has them."""
        if self.copied != self.digest:
            return self
        kept = [one for one in self.incidents if one.recovered_at is None or now - one.recovered_at < KEPT]
        trimmed = replace(self, incidents=kept)
        return replace(trimmed, copied=trimmed.digest)


def book_file(settings: Settings) -> Path:
    return settings.home / "alerts" / "incidents.json"


def read_book(settings: Settings) -> Book:
    """The book as it was left; empty where there is none."""
    state = read_state(book_file(settings))
    return Book([_incident(one) for one in state.get("incidents", ())], state.get("copied", ""))


def write_book(settings: Settings, book: Book) -> None:
    """Replace the book whole. Raises ``PlatformError`` where it cannot be written: then nobody must be told, or everybody
    would be told again at each look."""
    write_state(book_file(settings), {"incidents": [_plain(one) for one in book.incidents], "copied": book.copied})


def copy_to_table(lake: Lake, book: Book) -> Book:
    """Bring ``ops/incidents`` to what the book says; rows of incidents that the book no longer has stay.

    Raises ``LakeError`` when the table cannot be read or written.
    """
    if book.copied == book.digest:
        return book
    snapshot = lake.snapshot(INCIDENTS.name)
    mine = {one.incident_id for one in book.incidents}
    older = [row for row in snapshot.delta.to_pyarrow_table().to_pylist() if row["incident_id"] not in mine]
    rows = sorted([*older, *map(_row, book.incidents)], key=lambda row: row["opened_at"])
    content = pa.Table.from_pylist(rows, schema=arrow_schema(INCIDENTS))
    lake.replace(INCIDENTS.name, None, content.to_reader(), level=snapshot.recorded_level(None) + 1, inputs={})
    return replace(book, copied=book.digest)


def _row(incident: Incident) -> dict[str, Any]:
    told = {channel: as_json(asdict(one)) for channel, one in sorted(incident.told.items())}
    own = {name: value for name, value in vars(incident).items() if name in INCIDENTS.column_names}
    return own | {
        "event_date": incident.day,
        "notified_at": incident.first_told("opened"),
        "recovery_notified_at": incident.first_told("recovered"),
        "deliveries": json.dumps(told),
    }


def _plain(incident: Incident) -> dict[str, Any]:
    return as_json(asdict(incident))


def _incident(state: dict[str, Any]) -> Incident:
    moments: dict[str, Any] = {name: _moment(state[name]) for name in TIMES}
    told = {
        channel: Told(_moment(one["opened"]), _moment(one["recovered"]), one["error"])
        for channel, one in state["told"].items()
    }
    return Incident(**state | moments | {"told": told, "day": date.fromisoformat(state["day"]) if state["day"] else None})


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def listed(incidents: Iterable[Incident], now: datetime, recent: timedelta) -> list[Incident]:
    """Open incidents and those that ended lately, newest first."""
    chosen = [one for one in incidents if one.recovered_at is None or now - one.recovered_at < recent]
    return sorted(chosen, key=lambda one: (not one.is_open, -one.opened_at.timestamp()))
