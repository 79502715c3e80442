"""Spark schemas of the tables, derived from their contracts. Needs no JVM."""

from __future__ import annotations

from pyspark.sql import types as t

from iot_platform.contracts.tables import Kind, TableContract

SPARK_TYPES: dict[Kind, t.DataType] = {
    Kind.STRING: t.StringType(),
    Kind.DOUBLE: t.DoubleType(),
    Kind.BIGINT: t.LongType(),
    Kind.INT: t.IntegerType(),
    Kind.BOOLEAN: t.BooleanType(),
    Kind.TIMESTAMP: t.TimestampType(),
    Kind.DATE: t.DateType(),
    Kind.BINARY: t.BinaryType(),
    Kind.HEADERS: t.ArrayType(
        t.StructType([t.StructField("key", t.StringType()), t.StructField("value", t.BinaryType())])
    ),
    Kind.CHANGES: t.ArrayType(
        t.StructType(
            [
                t.StructField("seq", t.LongType()),
                t.StructField("from_date", t.DateType()),
                t.StructField("to_date", t.DateType()),
                t.StructField("declared", t.BooleanType()),
            ]
        )
    ),
}


def spark_schema(table: TableContract) -> t.StructType:
    """The table's Spark schema, columns in declared order, all nullable (see ``arrow.arrow_field``)."""
    return t.StructType([t.StructField(column.name, SPARK_TYPES[column.kind], True) for column in table.columns])
