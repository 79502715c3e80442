"""A device's rows in the registries, and what its row bore on: health of these dates is made again without it.

A level must never fall, and a registry's level is what its rows say changed. So what the row says is kept, without the
device, in the audit (``ops/erasures``) before the row goes; after that the erasure itself is one change more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from iot_platform.erase.device_rows import Counts, ask, delete_device
from iot_platform.lake.erasures import ERASED_DEVICES, Erasure, write_erasure
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot, level_id

TABLE = "registry/devices"
REMOVED = "removed"


def forget_device(lake: Lake, erasure: Erasure, device_id: str, now: datetime) -> Erasure:
    """Take the device's row out of ``registry/devices``; the audit row as it stands then. ``now`` is UTC."""
    held = ask(lake, lake.snapshot(TABLE), "select changes from rows where device_id = ?", [device_id])
    known = erasure.changes
    fresh = [change for (changes,) in held for change in changes or () if change not in known]
    if fresh:
        erasure = write_erasure(lake, erasure.with_changes([*known, *fresh]))
    sequence = int(now.timestamp() * 1_000_000)

    def marks(at: Snapshot, rows: Counts) -> dict[str, int]:
        if not rows:
            return {}
        # The level of the whole table tells the marts that it moved.
        return {
            ERASED_DEVICES: (at.transaction(ERASED_DEVICES) or 0) + 1,
            level_id(None): max(sequence, at.recorded_level(None) + 1),
        }

    delete_device(lake, TABLE, device_id, marks)
    if removal := _removal(erasure.changes, sequence):
        erasure = write_erasure(lake, erasure.with_changes([*erasure.changes, removal]))
    return erasure


def _removal(changes: Sequence[dict[str, Any]], sequence: int) -> dict[str, Any] | None:
    """The change that the erasure is, unless it stands there after all others."""
    said = max((change["seq"] for change in changes if change.get(REMOVED)), default=0)
    others = [change for change in changes if not change.get(REMOVED)]
    newest = max((change["seq"] for change in others), default=0)
    if newest <= said:
        return None
    last: list[date | None] = [change["to_date"] for change in others]
    return {
        "seq": max(sequence, newest + 1, said + 1),
        "from_date": min(change["from_date"] for change in others),
        "to_date": None if None in last else max(day for day in last if day),
        "declared": False,
        REMOVED: True,
    }
