"""What a build left behind: how each node ended, which dates each model made, how its tables look, which rows break a test.

Read from the file that dbt wrote while the builder still holds it: afterwards another build may be writing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

PREVIEW_ROWS, PREVIEW_COLUMNS, PREVIEW_DATES = 5, 8, 31
OFFENDING_ROWS = 10
READERS_SCHEMA = "main"  # what people query; staging copies Gold, and Gold shows itself
FOUND = {"fail", "warn"}  # a test that ran and found rows

Row = dict[str, Any]


@dataclass(frozen=True)
class NodeResult:
    """How one dbt node ended: dbt's word, its message, seconds, rows that break a test, and the SQL that ran."""

    status: str
    message: str = ""
    seconds: float = 0.0
    failures: int = 0
    relation: str = ""
    sql: str = ""


@dataclass(frozen=True)
class Table:
    """A model's table. ``by_date``: its rows by date (UTC; by Monday, of a table by weeks); ``made``: those this build made.

    ``previews`` has the first rows of each of the newest made dates, or of the table (None) where it has no dates. ``size``:
    bytes of the blocks that hold the table; small tables share blocks, so that the sum over tables is above the file's.
    """

    rows: int
    by_date: Mapping[date, int] = field(default_factory=dict)
    made: frozenset[date] = frozenset()
    previews: Mapping[date | None, list[Row]] = field(default_factory=dict)
    size: int = 0

    def size_of(self, day: date) -> int:
        """The bytes of a date: its share of the table's by its rows, for dates lie in the same blocks."""
        return round(self.size * self.by_date.get(day, 0) / self.rows) if self.rows else 0


@dataclass(frozen=True)
class Offending:
    """Rows that break a test: how many of each UTC date (none when the rows carry no date), and the first of them."""

    by_date: Mapping[date, int]
    rows: list[Row]

    def of(self, day: date | None) -> list[Row]:
        """Those of a date, and those that say none."""
        return self.rows if day is None else [row for row in self.rows if row.get("event_date") in {day, None}]


@dataclass(frozen=True)
class Facts:
    """Everything by dbt's unique id; ``versions``: of the lake's tables (``gold/sensor_health``) as the build saw them."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    offending: Mapping[str, Offending] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)


def node_results(path: Path) -> tuple[str, dict[str, NodeResult]]:
    """dbt's id of the last run and how each node ended, in its order; nothing when dbt did not get that far."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        invocation, found = content["metadata"]["invocation_id"], content["results"]
    except (OSError, ValueError, KeyError):
        return "", {}
    return invocation, {
        result["unique_id"]: NodeResult(
            result["status"], (result.get("message") or "").strip(), round(result["execution_time"], 3),
            result.get("failures") or 0, result.get("relation_name") or "", result.get("compiled_code") or "",
        )
        for result in found
    }  # fmt: skip


def gather(built: Path, nodes: Mapping[str, NodeResult], invocation: str) -> Facts:
    """Look at the tables that this run made, and at the rows that its tests found."""
    if not nodes or not built.exists():
        return Facts()
    try:
        connection = duckdb.connect(str(built), read_only=True)
    except duckdb.Error:  # dbt did not leave a database there: that is what the build fails with
        return Facts()
    with connection:
        connection.execute("set TimeZone = 'UTC'")
        return Facts(
            {
                unique_id: _table(connection, unique_id.split(".")[-1], node.relation, invocation)
                for unique_id, node in nodes.items()
                if unique_id.startswith("model.") and node.status == "success" and node.relation
            },
            {
                unique_id: _offending(connection, node.sql)
                for unique_id, node in nodes.items()
                if unique_id.startswith("test.") and node.status in FOUND and node.sql
            },
            dict(connection.execute("select input, version from _pinned order by input").fetchall()),
        )


def _table(connection: duckdb.DuckDBPyConnection, model: str, relation: str, invocation: str) -> Table:
    columns = [row[0] for row in connection.execute(f"describe {relation}").fetchall()]
    by = next((name for name in ("event_date", "week_start") if name in columns), None)
    days = connection.execute(
        "select distinct event_date from _made where model = ? and invocation_id = ? order by all", [model, invocation]
    ).fetchall()
    made = frozenset(day for (day,) in days)
    counts = connection.execute(f"select {by}, count(*) from {relation} group by all").fetchall() if by else []
    (rows,) = connection.execute(f"select count(*) from {relation}").fetchall()[0]
    previews: dict[date | None, list[Row]] = {}
    if f'"{READERS_SCHEMA}"' in relation:
        shown = ", ".join(columns[:PREVIEW_COLUMNS])
        asked: Iterable[date | None] = sorted(made)[-PREVIEW_DATES:] if by else [None]
        for day in asked:
            where, value = (f"where {by} = ?", [day]) if day else ("", [])
            previews[day] = _rows(connection, f"select {shown} from {relation} {where} limit {PREVIEW_ROWS}", value)
    return Table(rows, dict(counts), made, previews, _size(connection, relation))


def _size(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    blocks = (
        "select unnest([block_id] || additional_block_ids) as block from pragma_storage_info(?) where block_id >= 0"
    )
    sql = f"select count(distinct block) * (select block_size from pragma_database_size()) from ({blocks})"
    (size,) = connection.execute(sql, [relation]).fetchall()[0]
    return int(size)


def _offending(connection: duckdb.DuckDBPyConnection, sql: str) -> Offending:
    columns = [row[0] for row in connection.execute(f"describe {sql}").fetchall()]
    if "event_date" not in columns:
        return Offending({}, _rows(connection, f"from ({sql}) limit {OFFENDING_ROWS}"))
    counts = connection.execute(
        f"select event_date, count(*) from ({sql}) where event_date is not null group by all order by all"
    ).fetchall()
    # Some of each date, so that no date is shown as failed without a row of it.
    some = f"from ({sql}) qualify row_number() over (partition by event_date) <= {OFFENDING_ROWS} order by event_date"
    return Offending(dict(counts), _rows(connection, some))


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, values: Iterable[Any] = ()) -> list[Row]:
    result = connection.execute(sql, list(values))
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
