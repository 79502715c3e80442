"""Bronze tables made without Spark: commits as the stream writes them."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.timestamps import EPOCH
from iot_platform.ingest.position import app_id
from iot_platform.lake.lake import Lake
from iot_platform_tests.contracts.messages import ARRIVAL_US, EVENT_US


def commit(
    lake: Lake, table: str, offsets: list[tuple[str, int, int]], metadata: dict[str, Any] | None = None,
    *, generation: int = 1, batch: int = 0, seq: int = 1,
) -> None:  # fmt: skip
    """Append a row for each (topic, partition, offset)."""
    lake.ensure(table)
    schema = arrow_schema(lake.contract(table))
    given: dict[str, Any] = {
        "contract": "sensor_reading", "contract_version": 1, "event_id": "e", "device_id": "d", "metric": "pressure",
        "event_time": EPOCH + timedelta(microseconds=EVENT_US),
        "kafka_timestamp": EPOCH + timedelta(microseconds=ARRIVAL_US),
        "ingest_seq": seq, "event_date": date(2026, 11, 19), "batch_id": batch,
    }  # fmt: skip
    rows = [
        {name: given.get(name) for name in schema.names}
        | {"topic": topic, "kafka_partition": partition, "kafka_offset": offset}
        for topic, partition, offset in offsets
    ]
    write_deltalake(
        lake.path(table),
        pa.Table.from_pylist(rows, schema),
        mode="append",
        commit_properties=CommitProperties(
            custom_metadata={"userMetadata": json.dumps(metadata)} if metadata is not None else None,
            app_transactions=[Transaction(app_id(table, generation), batch)],
        ),
    )
