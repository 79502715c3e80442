"""Arrow schemas of the tables, derived from their contracts."""

from __future__ import annotations

import pyarrow as pa

from iot_platform.contracts.tables import Column, Kind, TableContract

ARROW_TYPES: dict[Kind, pa.DataType] = {
    Kind.STRING: pa.string(),
    Kind.DOUBLE: pa.float64(),
    Kind.BIGINT: pa.int64(),
    Kind.INT: pa.int32(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Kind.DATE: pa.date32(),
    Kind.BINARY: pa.binary(),
    Kind.HEADERS: pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
    Kind.CHANGES: pa.list_(
        pa.struct([("seq", pa.int64()), ("from_date", pa.date32()), ("to_date", pa.date32()), ("declared", pa.bool_())])
    ),
}


def arrow_field(column: Column) -> pa.Field:
    """The column as an Arrow field. Always nullable: what may not be null is checked, with a reason, before a commit."""
    return pa.field(column.name, ARROW_TYPES[column.kind], nullable=True)


def arrow_schema(table: TableContract) -> pa.Schema:
    """The table's Arrow schema, columns in declared order, times as UTC microseconds."""
    return pa.schema([arrow_field(column) for column in table.columns])
