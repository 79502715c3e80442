"""The book of incidents: ``$IOT_HOME/alerts/incidents.json``; the table ``ops/incidents`` is its copy for analysts.

A file and not the table, because it has to work when the lake does not: an outage of the lake is just when people have to
be told, once. The copy is written when the book changed, and tried again at the next look when it could not be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from iot_platform.alerts.incidents import Incident, Told
from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import INCIDENTS
from iot_platform.errors import PlatformError
from iot_platform.lake.lake import Lake
from iot_platform.lake.query import as_json
from iot_platform.local.process import write_state
from iot_platform.settings import Settings

KEPT = timedelta(days=30)  # how long ended incidents stay in the book; the table keeps them for good
TIMES = ("cleared_at", "recovered_at", "failed_at")


class BookError(PlatformError):
    """A book that cannot be understood: torn by a full disk, edited, or of another version."""


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
    """The book as it was left; empty where there is none. Raises ``BookError`` for one that cannot be understood."""
    file = book_file(settings)
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        return Book([_incident(one) for one in state["incidents"]], state["copied"])
    except FileNotFoundError:
        return Book()
    except OSError as error:
        raise PlatformError(f"{file} cannot be read: {error.strerror}", "Make it readable, or set IOT_HOME") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BookError(
            f"{file} is no book of incidents", "The sensor alerts sets it aside and begins again from ops/incidents."
        ) from None


def open_book(settings: Settings, lake: Lake, now: datetime) -> tuple[Book, list[str]]:
    """The book, and what had to be done for it in words: one that cannot be understood is set aside (``.bad`` and the
    time) and made again from ``ops/incidents``; where that cannot be read either, it begins empty and tells all again."""
    try:
        return read_book(settings), []
    except BookError as error:
        problem = error.what
    file = book_file(settings)
    try:
        rows = lake.snapshot(INCIDENTS.name).delta.to_pyarrow_table().to_pylist()
        book = Book([_of_row(row, now) for row in rows if row["recovered_at"] is None or now - row["recovered_at"] < KEPT])
        origin = "made again from ops/incidents"
    except PlatformError as error:
        book, origin = Book(), f"begun anew, what is open is told again ({error.what})"
    aside = file.with_name(f"{file.name}.{now:%Y%m%dT%H%M%S}.bad")
    try:
        file.replace(aside)
    except OSError as error:
        raise PlatformError(f"{file} cannot be moved: {error.strerror}", "Remove it.") from None
    write_book(settings, book)
    return book, [f"{problem}: set aside as {aside.name}, {origin}"]


def _of_row(row: dict[str, Any], now: datetime) -> Incident:
    """An incident as the table has it; what failed when is not there: it is forgotten from now on."""
    own = {one.name: row[one.name] for one in fields(Incident) if one.name in row}
    told = {channel: _told(one) for channel, one in json.loads(row["deliveries"]).items()}
    return Incident(**own | {"day": row["event_date"], "told": told, "failed_at": now})


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
    moments: dict[str, Any] = {name: _moment(state.get(name)) for name in TIMES}
    moments["opened_at"] = datetime.fromisoformat(state["opened_at"]).astimezone(UTC)
    told = {channel: _told(one) for channel, one in state["told"].items()}
    day = state.get("day")
    return Incident(**state | moments | {"told": told, "day": date.fromisoformat(day) if day else None})


def _told(state: dict[str, Any]) -> Told:
    return Told(_moment(state["opened"]), _moment(state["recovered"]), state["error"], state.get("severity"))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def listed(incidents: Iterable[Incident], now: datetime, recent: timedelta) -> list[Incident]:
    """Open incidents and those that ended lately, newest first."""
    chosen = [one for one in incidents if one.recovered_at is None or now - one.recovered_at < recent]
    return sorted(chosen, key=lambda one: (not one.is_open, -one.opened_at.timestamp()))
