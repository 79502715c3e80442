"""The audit of erasures: the table ``ops/erasures``, one row per erased device. It holds a keyed hash, never an id.

What belongs here: reading and writing its rows. Which hash stands for a device says ``lake.tombstones``; what an erasure
does stands in ``iot_platform.erase``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import ERASURES
from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake, writer_properties

TABLE = ERASURES.name
ERASED_DEVICES = "erased/devices"  # Delta transaction on registry/devices: some rows went, their changes stand in this table
ATTEMPTS = 50


@dataclass(frozen=True)
class Erasure:
    """One row of ``ops/erasures``; times are UTC, ``finished_at`` None while it is unfinished."""

    number: int
    device_hash: str
    key_fingerprint: str
    requested_at: datetime
    finished_at: datetime | None
    counts_before: str
    counts_after: str | None
    registry_changes: str | None
    pipeline_version: str

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The changes of the registry that the device's row bore, as ``registry/devices`` has them."""
        return [
            change | {name: date.fromisoformat(change[name]) if change[name] else None for name in ("from_date", "to_date")}
            for change in json.loads(self.registry_changes or "[]")
        ]

    def with_changes(self, changes: Sequence[Mapping[str, Any]]) -> Erasure:
        """With these in their place."""
        days = ("from_date", "to_date")
        plain = [{**one, **{name: one[name] and one[name].isoformat() for name in days}} for one in changes]
        return replace(self, registry_changes=json.dumps(plain))


def read_erasures(lake: Lake) -> list[Erasure]:
    """All erasures by number. Raises ``LakeError`` when the table cannot be read."""
    if not lake.exists(TABLE):
        return []
    try:
        rows = lake.snapshot(TABLE).delta.to_pyarrow_table(columns=[field.name for field in fields(Erasure)]).to_pylist()
    except (DeltaError, OSError) as error:
        raise lake.corrupt(TABLE, error) from None
    return sorted((Erasure(**row) for row in rows), key=lambda erasure: erasure.number)


def write_erasure(lake: Lake, erasure: Erasure) -> Erasure:
    """Add the row, or put it in the place of the one of the same hash; numbers follow each other without a gap.

    Returns the row as it stands: the number of a new one is given here. Raises ``LakeError`` when it cannot be written.
    """
    for _ in range(ATTEMPTS):
        snapshot = lake.writable(TABLE)
        rows = {Erasure(**row).device_hash: Erasure(**row) for row in snapshot.delta.to_pyarrow_table().to_pylist()}
        known = rows.get(erasure.device_hash)
        number = known.number if known else 1 + max((row.number for row in rows.values()), default=0)
        written = replace(erasure, number=number)
        rows[erasure.device_hash] = written
        content = [asdict(row) for row in sorted(rows.values(), key=lambda row: row.number)]
        try:
            write_deltalake(
                snapshot.delta,
                pa.Table.from_pylist(content, schema=arrow_schema(ERASURES)),
                mode="overwrite",
                writer_properties=writer_properties(ERASURES),
                # On exactly the version that was read: of two at once none loses its row.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except CommitFailedError:
            continue
        except (DeltaError, OSError) as error:
            raise lake.unwritable(TABLE, error) from None
        return written
    raise LakeError(f"{TABLE}: other writers leave no room for a commit", "Run it again; nothing was lost.")
