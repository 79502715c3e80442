"""How the platform stands: tables, topics, ledger, offsets. Read from logs and statistics; needs no service.

What belongs here: gathering for ``iot status``; the figures themselves come from ``lake`` and ``ingest``.
"""

from __future__ import annotations

from typing import Any

from iot_platform.contracts.tables import TABLES
from iot_platform.errors import ServiceError
from iot_platform.ingest.lag import committed_offsets, lag
from iot_platform.ingest.standing import standing
from iot_platform.lake.lake import Lake
from iot_platform.lake.ledger import date_ledger, offset_ledger
from iot_platform.lake.levels import Levels
from iot_platform.settings import Settings
from iot_platform.topics import load_topics


def table_status(lake: Lake) -> dict[str, Any]:
    """Per table: version, rows, bytes, and rows per date (UTC). Tables that were never made stand with version null."""
    found: dict[str, Any] = {}
    for name in TABLES:
        if not lake.exists(name):
            found[name] = {"version": None, "rows": 0, "bytes": 0, "dates": {}}
            continue
        snapshot = lake.snapshot(name)
        found[name] = {
            "version": snapshot.version,
            "rows": snapshot.rows,
            "bytes": snapshot.size,
            "dates": {day.isoformat(): rows for day, rows in sorted(snapshot.rows_by_date.items())},
        }
    return found


def held_status(lake: Lake) -> dict[str, list[str]]:
    """The dates that rollbacks hold, by table; tables without such are left out."""
    return {table: [day.isoformat() for day in days] for table, days in Levels(lake).held().items()}


def topic_status(settings: Settings) -> dict[str, Any]:
    """Per topic: end, committed offset and lag, summed over partitions; end and lag are null without a broker."""
    try:
        return {
            name: {"end_offset": found.end_offset, "committed_offset": found.committed_offset, "lag": found.lag}
            for name, found in lag(settings, seconds=5).items()
        }
    except ServiceError:
        ends = committed_offsets(settings)
        return {
            topic.name: {
                "end_offset": None,
                "committed_offset": sum(ends.get(topic.name, {}).values()),
                "lag": None,
            }
            for topic in load_topics(settings).values()
        }


def ingest_status(settings: Settings, topics: dict[str, Any]) -> dict[str, Any]:
    """How the ingest stands, by its own word, its supervisor's and, where a broker answers, the lag of the topics."""
    behind = {name: row["lag"] for name, row in topics.items()}
    return standing(settings, behind=None if None in behind.values() else behind).as_json()


def platform_status(settings: Settings) -> dict[str, Any]:
    """Everything, as ``iot status --json`` prints it."""
    lake = Lake(settings)
    topics = topic_status(settings)
    return {
        "tables": table_status(lake),
        "held": held_status(lake),
        "topics": topics,
        "ledger": [line.as_json() for line in date_ledger(lake)],
        "offsets": offset_ledger(lake).as_json(),
        "ingest": ingest_status(settings, topics),
    }
