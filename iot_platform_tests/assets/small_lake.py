"""A lake of a few readings, written to Bronze as the ingest stream writes it: no broker, no Spark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import BRONZE_QUARANTINE, BRONZE_READINGS, TABLES, TableContract
from iot_platform.lake import Lake

D = date(2026, 3, 10)
NOW = datetime(2026, 3, 20, tzinfo=UTC)
DAY = timedelta(days=1)
TOPIC = "iot.sensor-readings"
Row = dict[str, Any]


def at(day: date, hour: int = 12, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


class SmallLake:
    """Appends batches to Bronze with the metadata that levels and ledger read; one Kafka partition."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.seq = 1_000_000
        self.offset = 0
        self.newest = 0

    def ingest(self, readings: Iterable[Row], refused: Iterable[Row] = ()) -> None:
        """Land one micro-batch. A reading needs ``event_time``; a refused message needs nothing."""
        for commit in self.commits(readings, refused):
            commit()

    def commits(self, readings: Iterable[Row], refused: Iterable[Row] = ()) -> list[Callable[[], None]]:
        """The two commits that land a micro-batch, in their order."""
        self.seq += 1_000_000
        first = self.offset
        rows = [self._reading(row) for row in readings]
        bad = [self._refused(row) for row in refused]
        metadata = {
            "ingest_seq": self.seq,
            "newest_by_contract": {"sensor_reading": self.newest},
            "offsets": {TOPIC: {"0": [first, self.offset]}},
            "ends": {TOPIC: {"0": self.offset}},
            "messages": len(rows) + len(bad),
        }

        def commit(contract: TableContract, content: list[Row]) -> None:
            write_deltalake(
                self.lake.snapshot(contract.name).delta,
                pa.Table.from_pylist(content, schema=arrow_schema(contract)),
                mode="append",
                commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps(metadata)}),
            )

        return [partial(commit, BRONZE_READINGS, rows), partial(commit, BRONZE_QUARANTINE, bad)]

    def _coordinates(self) -> Row:
        self.offset += 1
        place = {"topic": TOPIC, "kafka_partition": 0, "kafka_offset": self.offset - 1}
        return place | {"kafka_timestamp": NOW, "ingest_seq": self.seq, "batch_id": 0}

    def _reading(self, row: Row) -> Row:
        moment: datetime = row["event_time"]
        self.newest = max(self.newest, int(moment.timestamp() * 1_000_000))
        device = row.get("device_id", "d1")
        return (
            self._coordinates()
            | {"contract": "sensor_reading", "contract_version": 1, "event_id": f"{device} {moment.isoformat()}"}
            | {"device_id": device, "metric": "temperature", "value": 20.0, "site": "hall", "event_date": moment.date()}
            | {"is_late": False, "replayed": False, "ingested_at": NOW}
            | row
        )

    def _refused(self, row: Row) -> Row:
        return (
            self._coordinates()
            | {"value": b"{", "headers": [], "reason": "not_json", "detail": "ends too early", "quarantined_at": NOW}
            | {"event_date": NOW.date()}
            | row
        )

    def day(self, day: date = D, readings: int = 24, **other: Any) -> None:
        """Land a day of readings of one device, one every 24 / readings hours."""
        self.ingest([{"event_time": at(day, 0) + DAY / readings * n, **other} for n in range(readings)])

    def put(self, table: str, day: date | None, rows: Iterable[Mapping[str, Any]], level: int = 0) -> None:
        """Replace one date of any table by these rows, as an engine would; columns that a row leaves out are null."""
        level = level or self.lake.snapshot(table).recorded_level(day) + 1
        content = pa.Table.from_pylist([dict(row) for row in rows], schema=arrow_schema(TABLES[table]))
        self.lake.replace(table, day, content.to_reader(), level=level, inputs={})

    def rows(self, table: str) -> list[Row]:
        return self.lake.snapshot(table).delta.to_pyarrow_table().to_pylist()
