"""Shows dbt the lake: a database in memory, ``lake``, with a view for each table at one pinned version, and its levels.

What belongs here: SQL that makes these views. Nothing of it is stored in the file that dbt builds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import duckdb
import pyarrow as pa

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TABLES
from iot_platform.lake import Lake
from iot_platform.lake.snapshot import Snapshot

# What the dbt project reads. One model stages each; Bronze and rejected readings are no business of analysts.
SOURCES = (
    "silver/readings", "gold/sensor_windows", "gold/device_type_windows", "gold/location_hourly", "gold/daily_summary",
    "gold/sensor_health", "gold/duration_p95", "gold/anomaly_events", "registry/devices", "ops/check_results",
)  # fmt: skip
LEVELS = pa.schema([("input", pa.string()), ("event_date", pa.date32()), ("level", pa.int64())])


def attach_lake(connection: duckdb.DuckDBPyConnection, lake: Lake, tables: Iterable[str] = SOURCES) -> None:
    """Attach ``lake``: views ``lake.<layer>.<table>``, typed as the contracts say, the table ``lake.main.levels``, and
    ``lake.main.asked`` with the dates that the settings narrow the build to (no row: all that moved), and
    ``lake.main.pinned`` with the version of each table (``gold/sensor_windows``) that was ever made.

    Each table is pinned at its version of this moment; one that was never made is an empty view. ``levels`` has a row
    for every source and date that was ever made, also one that lost all its rows since: the level that it was made from
    (section 8 of the design). A source that is not partitioned has one row, its date null.
    """
    lake.storage.show_to(connection)
    connection.execute("attach ':memory:' as lake")
    levels: list[tuple[str, object, int]] = []
    pinned: list[tuple[str, int]] = []
    for name in tables:
        contract = TABLES[name]
        layer, table = name.split("/")
        files: list[str] = []
        if lake.exists(name):
            snapshot = lake.snapshot(name)
            files = snapshot.files()
            pinned.append((name, snapshot.version))
            levels += [(contract.view, day, level) for day, level in recorded_levels(snapshot).items()]
        connection.execute(f"create schema if not exists lake.{layer}")
        connection.execute(f"create view lake.{layer}.{table} as {select_files(contract, files)}")
    rows = pa.Table.from_pylist([dict(zip(LEVELS.names, row, strict=True)) for row in levels], schema=LEVELS)
    connection.register("lake_levels", rows)
    connection.execute("create table lake.main.levels as from lake_levels")
    connection.unregister("lake_levels")
    connection.execute("create table lake.main.pinned (input varchar, version bigint)")
    if pinned:
        connection.executemany("insert into lake.main.pinned values (?, ?)", pinned)
    # Not as variables of dbt: it would parse the whole project again whenever they change.
    connection.execute("create table lake.main.asked (first date, last date, remake boolean)")
    if lake.settings.marts_dates:
        asked = [*lake.settings.marts_dates.split("/"), lake.settings.marts_remake]
        connection.execute("insert into lake.main.asked values (?, ?, ?)", asked)


def recorded_levels(snapshot: Snapshot) -> dict[date | None, int]:
    """The level of every date that was ever made; of a table without dates, its one level under None."""
    days = snapshot.recorded_days() if snapshot.contract.partition else [None]
    return {day: snapshot.recorded_level(day) for day in days}
