"""How many rows of a device each table and each mart holds, and how many rows there are: the figures of the proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from iot_platform.contracts.tables import TABLES
from iot_platform.erase.device_rows import ask
from iot_platform.erase.quarantine import TABLE as QUARANTINE
from iot_platform.erase.quarantine import messages_of
from iot_platform.erase.trace import Trace
from iot_platform.lake.lake import Lake


@dataclass(frozen=True)
class Count:
    """Of one table: the rows of the device (in quarantine its messages), and all rows."""

    device: int
    rows: int


Counts = Mapping[str, Count]


def count_all(lake: Lake, trace: Trace) -> dict[str, Count]:
    """Every table that was ever made, then every mart that names devices, as ``marts/<table>``."""
    found: dict[str, Count] = {}
    for table, contract in TABLES.items():
        if not lake.exists(table):
            continue
        snapshot = lake.snapshot(table)
        device = 0
        if table == QUARANTINE:
            device = len(messages_of(lake, snapshot, trace))
        elif "device_id" in contract.column_names:
            ((device,),) = ask(lake, snapshot, "select count(*) from rows where device_id = ?", [trace.device_id]) or [(0,)]
        found[table] = Count(device, snapshot.rows)
    return found | _marts(lake, trace.device_id)


def _marts(lake: Lake, device_id: str) -> dict[str, Count]:
    if not lake.settings.marts.exists():
        return {}
    import duckdb

    found: dict[str, Count] = {}
    with duckdb.connect(str(lake.settings.marts), read_only=True) as connection:
        tables = connection.execute(
            "select table_name from duckdb_columns() where column_name = 'device_id' and schema_name = 'main'"
            " and not internal order by all"
        ).fetchall()
        for (table,) in tables:
            sql = f'select count(*) filter (where device_id = ?), count(*) from "{table}"'
            for device, rows in connection.execute(sql, [device_id]).fetchall():
                found[f"marts/{table}"] = Count(device, rows)
    return found


def as_json(counts: Counts) -> dict[str, dict[str, int]]:
    return {name: asdict(count) for name, count in counts.items()}


def of_json(said: Mapping[str, Mapping[str, int]]) -> dict[str, Count]:
    return {name: Count(**count) for name, count in said.items()}
