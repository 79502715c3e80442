"""The Delta tables: where they lie, what a version of them holds, how one date is replaced, and the levels (ADR 0002).

What belongs here: everything that knows Delta's log. Nothing here computes rows.
"""

from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot

__all__ = ["Lake", "Snapshot"]
