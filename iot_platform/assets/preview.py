"""What one date of a table looks like: its first rows, and a small plot where that says more than figures.

Read from the files of one snapshot after the commit: a look at some columns, the same for every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from iot_platform.assets.metadata import markdown_table
from iot_platform.assets.plots import IN_PLACE, hourly_bars, hourly_line, named_bars
from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import COORDINATES, EVENT_DATE, LINEAGE, Kind, TableContract
from iot_platform.errors import LakeError
from iot_platform.marts.facts import PREVIEW_COLUMNS, PREVIEW_ROWS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from iot_platform.lake.lake import Lake
    from iot_platform.lake.snapshot import Snapshot

CELL = 40  # characters
HEALTHY = 90.0  # % of the expected readings; below it a device is failing, as the SQL of gold/sensor_health says
# What a reading or figure is, before how it came and how it was made.
FIRST = ("device_id", "metric", "event_time", "value")
LAST = {"contract", "device_type", "site", "zone", "state", "firmware", "source", *(column.name for column in COORDINATES)}
PASSED_OVER = {EVENT_DATE.name, "contract_version", "event_id", *(column.name for column in LINEAGE)}
NESTED = {Kind.CHANGES, Kind.HEADERS, Kind.BINARY}
HOUR = "epoch_us({column}) // 3600000000 % 24"

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Plot:
    """A plot of one date: the query over its rows (``{files}``), and what draws the answer as Markdown."""

    name: str
    sql: str
    draw: Callable[[Rows], str]


def _readings_by_hour(column: str) -> Plot:
    return Plot(
        "readings_by_hour",
        f"select {HOUR.format(column=column)}, count(*) from {{files}} group by 1",
        lambda rows: hourly_bars("readings by hour, UTC", dict(rows)),
    )


PLOTS: dict[str, Plot] = {
    "bronze/readings": _readings_by_hour("event_time"),
    "silver/readings": _readings_by_hour("event_time"),
    "gold/sensor_health": Plot(
        "mean_health_by_hour",
        f"select {HOUR.format(column='window_start')}, avg(health_pct) from {{files}} group by 1",
        lambda rows: hourly_line("mean health by hour, UTC, in %", dict(rows), top=100.0, limit=HEALTHY),
    ),
    "gold/duration_p95": Plot(
        "p95_by_type",
        "select device_type, p95 from {files} order by p95 desc, device_type",
        lambda rows: named_bars("device type", "p95, ms", [(str(name), float(p95)) for name, p95 in rows]),
    ),
}


def shown_columns(contract: TableContract) -> list[str]:
    """The columns of a preview: what the rows are sorted by, then figures, then attributes; few of them."""
    fit = [
        column.name for column in contract.columns if column.name not in PASSED_OVER and column.kind not in NESTED
    ]
    leading = [name for name in dict.fromkeys((*contract.sort, *FIRST)) if name in fit]
    others = [name for name in fit if name not in leading]
    return [*leading, *sorted(others, key=LAST.__contains__)][:PREVIEW_COLUMNS]


def previews(
    lake: Lake, snapshot: Snapshot, days: Iterable[date | None]
) -> dict[date | None, Mapping[str, dg.MetadataValue]]:
    """For each date (None: a table that has none) ``preview`` and, where the table has one, its plot, as metadata.

    A date without rows has none. What cannot be read is left out: the rows are committed, and a look at them is no reason
    to fail.
    """
    files: dict[date | None, list[str]] = {}
    for file in snapshot.active:
        if file.rows:
            files.setdefault(file.day, []).append(file.path)
    wanted = [day for day in days if day in files]
    if not wanted:
        return {}
    table = snapshot.contract.name
    try:
        with lake.reading(table) as connection:
            return {day: _look(connection, snapshot.contract, day, files[day]) for day in wanted}
    except LakeError:
        return {}


def _look(
    connection: DuckDBPyConnection, contract: TableContract, day: date | None, paths: list[str]
) -> dict[str, dg.MetadataValue]:
    looked: dict[str, dg.MetadataValue] = {}
    if plot := PLOTS.get(contract.name):
        looked[plot.name] = dg.MetadataValue.md(plot.draw(_ask(connection, contract, paths, plot.sql)))
    names = shown_columns(contract)
    selected = ", ".join(f'"{name}"' for name in names)
    rows = _ask(connection, contract, paths[:1], f"select {selected} from {{files}} limit {PREVIEW_ROWS}")
    shown = [{name: cut(value, day) for name, value in zip(names, row, strict=True)} for row in rows]
    while len(preview := markdown_table(shown)) >= IN_PLACE and len(shown) > 1:
        shown.pop()
    looked["preview"] = dg.MetadataValue.md(preview)
    return looked


def _ask(connection: DuckDBPyConnection, contract: TableContract, paths: list[str], sql: str) -> Rows:
    import duckdb

    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    try:
        return connection.execute(
            sql.format(files=f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)")
        ).fetchall()
    except duckdb.BinderException:  # all of these files are older than a column
        return connection.execute(sql.format(files=f"({select_files(contract, paths)})")).fetchall()


def cut(value: Any, day: date | None) -> Any:
    """A cell: figures in six digits, a time of the table's date without the date, text cut."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value:%H:%M:%S}" if value.date() == day else f"{value:%Y-%m-%d %H:%M:%S}"
    text = str(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"
