"""Pandera schemas (on Polars) of the tables, derived from their contracts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pandera.errors
import pandera.polars as pa
import polars as pl
import pyarrow

from iot_platform.contracts.tables import Column, Kind, TableContract

KEY = "key "  # before the names of key columns in failure cases, which have columns of their own
POLARS_TYPES: dict[Kind, Any] = {
    Kind.STRING: pl.String,
    Kind.DOUBLE: pl.Float64,
    Kind.BIGINT: pl.Int64,
    Kind.INT: pl.Int32,
    Kind.BOOLEAN: pl.Boolean,
    Kind.TIMESTAMP: pl.Datetime("us", "UTC"),
    Kind.DATE: pl.Date,
    Kind.BINARY: pl.Binary,
    Kind.HEADERS: pl.List(pl.Struct({"key": pl.String, "value": pl.Binary})),
    Kind.CHANGES: pl.List(
        pl.Struct({"seq": pl.Int64, "from_date": pl.Date, "to_date": pl.Date, "declared": pl.Boolean})
    ),
}


def _checks(column: Column) -> list[pa.Check]:
    checks: list[pa.Check] = []
    if column.minimum is not None:
        checks.append(pa.Check.ge(column.minimum, name=f"{column.name} >= {column.minimum:g}"))
    if column.maximum is not None:
        checks.append(pa.Check.le(column.maximum, name=f"{column.name} <= {column.maximum:g}"))
    if column.allowed:
        checks.append(pa.Check.isin(column.allowed, name=f"{column.name} is one of {', '.join(column.allowed)}"))
    return checks


@cache
def polars_schema(table: TableContract, *, unique: bool = True) -> pa.DataFrameSchema:
    """The table's Pandera schema: exact columns and types, nulls, bounds, closed lists, and the keys unique.

    ``unique=False`` leaves the keys out, for a part of a partition. Validate a collected ``polars.DataFrame``: on a
    LazyFrame Pandera looks at types only.
    """
    return pa.DataFrameSchema(
        {
            column.name: pa.Column(POLARS_TYPES[column.kind], checks=_checks(column), nullable=column.nullable)
            for column in table.columns
        },
        strict=True,
        unique=list(table.keys) if unique else None,
        name=table.name,
    )


@cache
def _at_once(table: TableContract) -> pa.DataFrameSchema:
    """The rules for values as one check over all columns, in a tenth of the time of one after the other. It only says
    whether all hold: what broke is said by ``polars_schema``."""
    rules: list[pl.Expr] = []
    for column in table.columns:
        cell = pl.col(column.name)
        if not column.nullable:
            rules.append(cell.is_not_null())
        if column.minimum is not None:
            rules.append(cell.ge(column.minimum).fill_null(True))
        if column.maximum is not None:
            rules.append(cell.le(column.maximum).fill_null(True))
        if column.allowed:
            rules.append(cell.is_in(column.allowed).fill_null(True))
    return pa.DataFrameSchema(
        checks=[pa.Check(lambda data: data.lazyframe.select(pl.all_horizontal(rules or [pl.lit(True)])), name="all rules")]
    )


def violations(table: TableContract, rows: pyarrow.RecordBatchReader, *, chunk_rows: int = 1_000_000) -> pl.DataFrame | None:
    """The rows that break the contract, keys apart, as Pandera's failure cases, each with its row's key columns (as text,
    named ``key …``); None when there are none.

    Reads the rows in chunks, so that a large date is never whole in memory, and stops at the first chunk that fails.
    """
    chunk: list[pyarrow.RecordBatch] = []
    held = 0
    for batch in rows:
        chunk.append(batch)
        held += batch.num_rows
        if held >= chunk_rows:
            if (broken := _failure_cases(table, chunk, rows.schema)) is not None:
                return broken
            chunk, held = [], 0
    return _failure_cases(table, chunk, rows.schema)


def _failure_cases(
    table: TableContract, batches: list[pyarrow.RecordBatch], types: pyarrow.Schema
) -> pl.DataFrame | None:
    frame = pl.DataFrame(pl.from_arrow(pyarrow.Table.from_batches(batches, schema=types)))
    if dict(frame.schema) == _polars_types(table) and (frame.is_empty() or _holds(table, frame)):
        return None
    try:
        polars_schema(table, unique=False).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        return _with_keys(error.failure_cases, frame, table.keys)
    return None


def _with_keys(cases: pl.DataFrame, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The failure cases, each with the keys of its row; without them where a column as a whole is wrong."""
    known = [key for key in keys if key in frame.columns]
    rows = frame.select(pl.col(key).cast(pl.String).alias(f"{KEY}{key}") for key in known).with_row_index("index")
    return cases.with_columns(pl.col("index").cast(pl.UInt32)).join(rows, on="index", how="left", maintain_order="left")


def offending_rows(broken: pl.DataFrame) -> list[dict[str, Any]]:
    """The failure cases for people: which row by its key, which column, which rule, which value."""
    keys = [name for name in broken.columns if name.startswith(KEY)]
    rows = broken.select(pl.col(keys).name.map(lambda name: name.removeprefix(KEY)), "column", "check", "failure_case")
    return rows.to_dicts()


@cache
def _polars_types(table: TableContract) -> dict[str, Any]:
    columns = polars_schema(table, unique=False).columns
    return {name: column.dtype.type for name, column in columns.items()}  # pyright: ignore[reportOptionalMemberAccess]


def _holds(table: TableContract, frame: pl.DataFrame) -> bool:
    try:
        _at_once(table).validate(frame)
    except pandera.errors.SchemaError:
        return False
    return True


def describe_violations(broken: pl.DataFrame) -> str:
    """Failure cases as one line: how many, and the first few that differ, with column, rule and value."""
    alike = broken.group_by("column", "check", "failure_case", maintain_order=True).len()
    shown = [
        f"{row['column'] or ''} breaks \"{row['check']}\" with {row['failure_case']!r}".strip()
        + (f" ({row['len']} times)" if row["len"] > 1 else "")
        for row in alike.head(3).to_dicts()
    ]
    more = f" and {broken.height - alike.head(3)['len'].sum()} more" if alike.height > 3 else ""
    return f"{broken.height} value(s) break the contract: {'; '.join(shown)}{more}"
