"""Kafka records landed by the real sink, with its parsing, files and commits, from memory: no broker, no Spark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from iot_platform.contracts.parse import KafkaRecord, ParseRules
from iot_platform.ingest.generation import Start
from iot_platform.ingest.position import read_position
from iot_platform.ingest.sink import BronzeSink
from iot_platform.lake import Lake
from iot_platform_tests.contracts.messages import ARRIVAL_US, TOPIC_OF, TOPICS
from iot_platform_tests.ingest.kafka_batches import kafka_batch

NOW = datetime(2026, 11, 19, 12, tzinfo=UTC)


class Frame:
    """What the sink asks of a Spark frame, over records in memory: one worker, partitions in order."""

    def __init__(self, records: Sequence[KafkaRecord]) -> None:
        self.sparkSession = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=1))
        self._records = records
        self._made: list[dict[str, Any]] = []

    def coalesce(self, _: int) -> Frame:
        return self

    def mapInArrow(self, function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]], _: str) -> Frame:
        self._made = [row for batch in function(iter([kafka_batch(self._records)])) for row in batch.to_pylist()]
        return self

    def collect(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(**row) for row in self._made]


class Landed:
    """Hands records to the sink batch by batch; offsets of a topic's partition 0 count up."""

    def __init__(self, lake: Lake, now: datetime = NOW) -> None:
        self.lake = lake
        self.now = now
        self.batch = -1
        self._next: dict[tuple[str, int], int] = {}
        for table in ("bronze/readings", "bronze/quarantine"):
            lake.ensure(table)

    def repeat(self, values: Sequence[Mapping[str, Any] | bytes | None], contract: str = "sensor_reading") -> None:
        """The same batch again, as after a restart: its readings, its quarantine, or both may be in the tables."""
        self._next[TOPIC_OF[contract], 0] -= len(values)
        self.batch -= 1
        self.land(values, contract)

    def land(
        self, values: Sequence[Mapping[str, Any] | bytes | None], contract: str = "sensor_reading", *, partition: int = 0,
        arrival_us: int = ARRIVAL_US, headers: Sequence[tuple[str, bytes | None]] = (),
        key: bytes = b"key",
    ) -> list[int]:  # fmt: skip
        """One micro-batch of these values; the offsets they got."""
        place = TOPIC_OF[contract], partition
        first = self._next.get(place, 0)
        records = [
            KafkaRecord(
                *place, first + number, arrival_us, key,
                json.dumps(value).encode() if isinstance(value, Mapping) else value, headers,
            )
            for number, value in enumerate(values)
        ]  # fmt: skip
        self._next[place] = first + len(records)
        self.batch += 1
        ranges = {place[0]: {partition: (first, first + len(records))}}
        checkpoint = SimpleNamespace(range_of=lambda _: ranges)
        start = Start(read_position(self.lake), 1, checkpoint, {})  # pyright: ignore[reportArgumentType]
        sink = BronzeSink(self.lake, start, dict.fromkeys(TOPICS, "id"), ParseRules(TOPICS), now=lambda: self.now)
        sink(Frame(records), self.batch)  # pyright: ignore[reportArgumentType]
        return [record.offset for record in records]
