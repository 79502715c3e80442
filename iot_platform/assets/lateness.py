"""How much of a date's readings came late, as metadata of its materialization: a figure that Dagster plots over dates.

The share itself; from which share on it is too much, the check ``late_rate`` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from iot_platform.contracts.duckdb import select_files
from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot

TABLE = "bronze/readings"


def lateness(lake: Lake, snapshot: Snapshot, days: Iterable[date]) -> dict[date, Mapping[str, int | float]]:
    """``late_readings`` and ``late_share`` (0 … 1) of each of these dates (UTC) that has rows; of ``bronze/readings`` only.

    What cannot be read is left out: the rows are committed, and a figure about them is no reason to fail.
    """
    files = snapshot.files(days) if snapshot.contract.name == TABLE else []
    if not files:
        return {}
    source = select_files(snapshot.contract, files)
    sql = f"select event_date, count(*), count(*) filter (where is_late) from ({source}) group by event_date"
    try:
        with lake.reading(TABLE) as connection:
            counted = connection.execute(sql).fetchall()
    except LakeError:
        return {}
    return {day: {"late_readings": late, "late_share": round(late / rows, 6)} for day, rows, late in counted}
