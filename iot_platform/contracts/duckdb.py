"""DuckDB types of the tables' columns, derived from their contracts."""

from __future__ import annotations

from iot_platform.contracts.promoted import duckdb_value
from iot_platform.contracts.tables import BRONZE_READINGS, Kind, TableContract

PROMOTING = BRONZE_READINGS.name

DUCKDB_TYPES: dict[Kind, str] = {
    Kind.STRING: "varchar",
    Kind.DOUBLE: "double",
    Kind.BIGINT: "bigint",
    Kind.INT: "integer",
    Kind.BOOLEAN: "boolean",
    Kind.TIMESTAMP: "timestamptz",
    Kind.DATE: "date",
    Kind.BINARY: "blob",
    Kind.HEADERS: 'struct("key" varchar, "value" blob)[]',
    Kind.CHANGES: "struct(seq bigint, from_date date, to_date date, declared boolean)[]",
}


def select_files(table: TableContract, files: list[str]) -> str:
    """SQL that reads these data files as the table: declared columns in order, absent ones null, no file no row."""
    columns = [(f'"{column.name}"', DUCKDB_TYPES[column.kind]) for column in table.columns]
    if not files:
        return f"select {', '.join(f'null::{kind} as {name}' for name, kind in columns)} where false"
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    # The empty relation in front gives every declared column a name and type, whatever the files were written with.
    typed = f"select {', '.join(f'null::{kind} as {name}' for name, kind in columns)} where false"
    source = f"read_parquet([{listed}], hive_partitioning = true, union_by_name = true)"
    if table.name != PROMOTING:
        names = ", ".join(name for name, _ in columns)
        return f"select {names} from ({typed} union all by name select * from {source})"
    values = ", ".join(f"{duckdb_value(column.name, f'b.{name}')} as {name}" for column in table.columns
                       for name in (f'"{column.name}"',))  # fmt: skip
    return f"select {values} from ({typed} union all by name select * from {source}) b"
