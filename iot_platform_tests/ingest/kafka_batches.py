"""Arrow batches as Spark's Kafka source gives them to the workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from iot_platform.contracts.parse import KafkaRecord

SCHEMA = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
    ]
)


def kafka_batch(records: Iterable[KafkaRecord]) -> pa.RecordBatch:
    """One batch; a record without headers has null there, as Spark gives it."""
    records = list(records)
    columns: list[Any] = [
        pa.array([record.key for record in records], pa.binary()),
        pa.array([record.value for record in records], pa.binary()),
        pa.array([record.topic for record in records]),
        pa.array([record.partition for record in records], pa.int32()),
        pa.array([record.offset for record in records], pa.int64()),
        pa.array([record.timestamp_us for record in records], pa.int64()).cast(SCHEMA.field("timestamp").type),
        pa.array(
            [[{"key": key, "value": value} for key, value in record.headers] or None for record in records],
            SCHEMA.field("headers").type,
        ),
    ]
    return pa.record_batch(columns, schema=SCHEMA)
