"""A device's rows in what is made from Bronze: deleted, and the ledger told of it by the commit that deletes them.

What belongs here: Silver and Gold. On an open date the rows go because Bronze's went, and the date is made again besides
(its level grew): Silver's side of the ledger is what Bronze lost, however often a run that began before brings rows back. On
a closed date nothing is ever made again: each table counts its own rows, and raises what the marts go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from iot_platform.erase.device_rows import Counts, delete_device
from iot_platform.lake.lake import Lake
from iot_platform.lake.retention import closed_before_of
from iot_platform.lake.snapshot import Snapshot, erased_id, level_id

BRONZE, SILVER, REJECTED = "bronze/readings", "silver/readings", "silver/rejected_readings"
LEDGER = (REJECTED, SILVER)


def erase_derived(lake: Lake, table: str, device_id: str) -> Counts:
    """Delete the device's rows of a derived table; those deleted, by date."""

    def marks(at: Snapshot, held: Counts) -> Mapping[str, int]:
        bronze = lake.snapshot(BRONZE)
        first_open = closed_before_of(bronze) or date.min
        found: dict[str, int] = {}
        for day, rows in held.items():
            if day and day < first_open:
                found[level_id(day)] = at.recorded_level(day) + 1
                if table in LEDGER:
                    found[erased_id(day)] = at.erased(day) + rows
        if table == SILVER:
            rejected = lake.snapshot(REJECTED)
            for day in bronze.erased_days | {day for day in held if day}:
                if day >= first_open:
                    found[erased_id(day)] = bronze.erased(day) - rejected.erased(day)
        return found

    return delete_device(lake, table, device_id, marks)
