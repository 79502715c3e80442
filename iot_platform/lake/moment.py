"""Versions of several tables that stood side by side: figures of more than one table are of one moment, or they are torn."""

from __future__ import annotations

from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot

LOOKS = 100  # a look takes some ms, and writers commit a few times a second


def at_one_moment(lake: Lake, *tables: str) -> list[Snapshot]:
    """These tables as they all stood when the last of them was opened: none of the others had moved by then.

    Raises ``LakeError`` for a log that cannot be read, and where other writers leave no moment to look.
    """
    for _ in range(LOOKS):
        found = [lake.snapshot(table) for table in tables]
        if all(lake.snapshot(snapshot.contract.name).version == snapshot.version for snapshot in found[:-1]):
            return found
    raise no_moment(*tables)


def no_moment(*tables: str) -> LakeError:
    return LakeError(f"{', '.join(tables)}: other writers leave no moment to look at them together", "Run it again.")
