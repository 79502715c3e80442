"""Pandera schemas (on Polars) of the tables, derived from their contracts."""

from __future__ import annotations

from typing import Any

import pandera.polars as pa
import polars as pl

from iot_platform.contracts.tables import Column, Kind, TableContract

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


def polars_schema(table: TableContract) -> pa.DataFrameSchema:
    """The table's Pandera schema: exact columns and types, nulls, bounds, closed lists, and the keys unique.

    Validate a collected ``polars.DataFrame`` of one partition: on a LazyFrame Pandera looks at types only.
    """
    return pa.DataFrameSchema(
        {
            column.name: pa.Column(POLARS_TYPES[column.kind], checks=_checks(column), nullable=column.nullable)
            for column in table.columns
        },
        strict=True,
        unique=list(table.keys),
        name=table.name,
    )
