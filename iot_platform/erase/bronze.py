"""A device's readings in Bronze: deleted, and with the same commit the ledger and the levels told of it.

What belongs here: ``bronze/readings``. Its dates are raised (``changed/<date>``), so that all that is made from them is made
again; messages are counted for the ledger of offsets, and rows for the ledger of dates.
"""

from __future__ import annotations

from datetime import date

from iot_platform.erase.device_rows import Counts, ask, delete_device
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import ERASED_MESSAGES, Snapshot, changed_id, erased_id

TABLE = "bronze/readings"


def erase_readings(lake: Lake, device_id: str) -> Counts:
    """Delete the device's readings; those deleted, by event date. Raises ``LakeError`` when the table cannot be written."""
    return delete_device(lake, TABLE, device_id, lambda at, held: _marks(lake, at, held, device_id))


def _marks(lake: Lake, at: Snapshot, held: Counts, device_id: str) -> dict[str, int]:
    marks = {erased_id(day): at.erased(day) + rows for day, rows in held.items() if day}
    left = newest_left(lake, at, device_id, held)
    for day in filter(None, held):
        # A level only grows: where the date's newest batch goes, what it counted for goes into the changes.
        marks[changed_id(day)] = at.changed(day) + 1 + at.sequences.get(day, 0) - left.get(day, 0)
    if messages := _messages(lake, at, device_id):
        marks[ERASED_MESSAGES] = (at.transaction(ERASED_MESSAGES) or 0) + messages
    return marks


def newest_left(lake: Lake, at: Snapshot, device_id: str, days: Counts) -> dict[date, int]:
    """Per date the largest ``ingest_seq`` among the rows that stay; a date of which none stays is not there."""
    if not days:
        return {}
    sql = (
        "select event_date, max(ingest_seq) from rows where device_id <> ? and event_date in (select unnest(?)) group by all"
    )
    return dict(ask(lake, at, sql, [device_id, list(days)]))


def _messages(lake: Lake, at: Snapshot, device_id: str) -> int:
    sql = "select count(*) from (select distinct topic, kafka_partition, kafka_offset from rows where device_id = ?)"
    return sum(count for (count,) in ask(lake, at, sql, [device_id]))
