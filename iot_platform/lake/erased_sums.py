"""Sums that may still hold readings of an erased device: those that automation does not make again, and old versions.

A sum names no device, so nobody can take one out of it: it can only be made again. What belongs here: which dates of which
tables that concerns, for those who keep them from being made again or bring earlier ones back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from iot_platform.lake.erasures import read_erasures
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels, look_back
from iot_platform.transforms.catalog import TRANSFORMS

if TYPE_CHECKING:
    from iot_platform.lake.date_versions import DateVersion

BRONZE = "bronze/readings"


def sums_erased(lake: Lake, table: str, day: date) -> bool:
    """Whether the date of this derived table names no device, and readings went that it was ever made from."""
    if not lake.exists(BRONZE) or any(column.name == "device_id" for column in lake.contract(table).columns):
        return False
    erased = lake.snapshot(BRONZE).erased_days
    return any(read in erased for source in TRANSFORMS[table].inputs for read in look_back(day, source.look_back))


def held_sums(lake: Lake) -> dict[str, list[date]]:
    """Per table the dates held by a rollback that may sum up an erased device, oldest first: a release makes them again."""
    held = {table: [day for day in days if sums_erased(lake, table, day)] for table, days in Levels(lake).held().items()}
    return {table: days for table, days in held.items() if days}


def is_before_erasure(lake: Lake, table: str, day: date, version: DateVersion, known: Sequence[DateVersion]) -> bool:
    """Whether this version of the date may sum up a device that was erased later. ``known``: all versions of the date."""
    if not sums_erased(lake, table, day):
        return False
    erased_at = max((one.requested_at for one in read_erasures(lake)), default=None)
    made_at = _original(version, {one.version: one for one in known}).at
    return erased_at is not None and (made_at is None or made_at < erased_at)


def _original(version: DateVersion, known: Mapping[int, DateVersion]) -> DateVersion:
    """Of a version that is itself a rollback the one whose rows it has."""
    while (back := version.metadata.get("rolled_back")) and (earlier := known.get(back["restored"])):
        version = earlier
    return version
