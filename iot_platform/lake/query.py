"""SQL over everything: a DuckDB connection with a view for each table of the lake and each mart, read-only."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import InputError, LakeError
from iot_platform.lake.lake import Lake, first_line
from iot_platform.lake.storage import is_failed_read

READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def connect(lake: Lake, views: Collection[str] | None = None) -> duckdb.DuckDBPyConnection:
    """A connection in memory, in UTC, with the views ``silver_readings``, ``gold_sensor_windows``, … and the marts.

    The views are pinned to the versions of this moment. A table that was never made is an empty view. ``views`` limits
    them to those a question names, so that a damaged table stops only the questions about it.
    """
    connection = lake.storage.connect()
    for name, contract in TABLES.items():
        if views is not None and contract.view not in views:
            continue
        files = lake.snapshot(name).files() if lake.exists(name) else []
        try:
            connection.execute(f"create view {contract.view} as {select_files(contract, files)}")
        except duckdb.Error as error:
            if not is_failed_read(error):
                raise
            raise lake.corrupt(name, error) from None
    if lake.settings.marts.exists():
        path = str(lake.settings.marts).replace("'", "''")
        connection.execute(f"attach '{path}' as marts_file (read_only)")
        marts = connection.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = 'marts_file'"
            " and schema_name not like '%staging%' and table_name not like '\\_%' escape '\\'"
        ).fetchall()
        for schema, table in marts:
            connection.execute(f'create view if not exists "{table}" as from marts_file."{schema}"."{table}"')
    return connection


def select(lake: Lake, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one reading statement; column names and rows. Anything that would write is an ``InputError``."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise InputError(f"the SQL cannot be read: {first_line(error)}") from None
    if len(statements) != 1 or statements[0].type not in READING:
        raise InputError("`query` runs one SELECT and changes nothing", "Give one statement that only reads.")
    # A statement that names no table (show tables) is about all of them.
    with connect(lake, views=_named(sql) or None) as connection:
        try:
            result = connection.execute(statements[0])
            names = [column[0] for column in result.description or ()]
            return names, result.fetchall()
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
            is_table = isinstance(error, duckdb.CatalogException) and not lake.settings.marts.exists()
            todo = "If it is a mart: none are built yet; build them by `iot materialize`." if is_table else ""
            raise InputError(f"the SQL does not fit the tables: {first_line(error)}", todo) from None
        except duckdb.Error as error:
            if is_failed_read(error):
                raise LakeError(
                    f"a data file cannot be read: {first_line(error)}", "The file is missing or damaged: restore it."
                ) from None
            raise InputError(f"the SQL failed: {first_line(error)}") from None


def _named(sql: str) -> set[str]:
    """The tables that a statement names, in lower case; what it cannot tell it leaves to DuckDB to refuse."""
    with duckdb.connect() as connection:
        try:
            return {name.lower().strip('"') for name in connection.get_table_names(sql)}
        except duckdb.Error:  # it looks at columns too, which of a join of tables that are not there it cannot
            return set(re.findall(r"\w+", sql.lower()))


def as_json(value: Any) -> Any:
    """A value as JSON has it: times ISO 8601 with ``Z``, dates ISO, bytes as text or hex, numbers unrounded."""
    match value:
        case datetime():
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value.hex()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dict():
            return {key: as_json(item) for key, item in value.items()}
        case list() | tuple():
            return [as_json(item) for item in value]
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return str(value)
