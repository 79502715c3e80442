"""The real sink over records in memory: no broker, no Spark. What happens between its steps is up to the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from iot_platform.contracts.parse import KafkaRecord
from iot_platform.ingest import sink as sinks
from iot_platform.ingest.generation import Start, fence
from iot_platform.ingest.position import TABLES, read_position
from iot_platform.ingest.sink import BronzeSink
from iot_platform.lake import Lake
from iot_platform_tests.contracts.messages import RULES
from iot_platform_tests.ingest.kafka_batches import kafka_batch

NOW = datetime(2026, 11, 20, tzinfo=UTC)
OnStep = Callable[[str], None]


class Frame:
    """What the sink asks of a Spark frame: one worker that has all records."""

    def __init__(self, records: Sequence[KafkaRecord]) -> None:
        self.sparkSession = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=1))
        self._records = records

    def coalesce(self, _: int) -> Frame:
        return self

    def mapInArrow(self, function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]], _: str) -> Frame:
        self._made = [row for batch in function(iter([kafka_batch(self._records)])) for row in batch.to_pylist()]
        return self

    def collect(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(**row) for row in self._made]


class Died(Exception):
    """The process died at a step."""


class LocalIngest:
    """Lands a log of one Kafka partition, batch by batch, as Spark would: the plan of a batch outlives the process."""

    def __init__(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lake = lake
        self.log: list[KafkaRecord] = []
        self.plans: list[tuple[int, int]] = []  # of this generation, by batch id
        self.done = 0
        self.generation = 1
        self.on_step: OnStep = lambda _: None
        monkeypatch.setattr(sinks, "reach", self._reached)
        for table in TABLES:
            lake.ensure(table)

    def _reached(self, name: str) -> None:
        self.on_step(name)

    def send(self, *records: KafkaRecord) -> None:
        for record in records:
            self.log.append(record._replace(offset=len(self.log)))

    def new_generation(self) -> None:
        """The checkpoint is lost: begin again at the smaller of the two tables' ends."""
        self.generation += 1
        fence(self.lake, read_position(self.lake), self.generation)
        self.plans, self.done = [], 0

    def land(self, on_step: OnStep | None = None) -> bool:
        """Have everything landed that was sent, after the batch that was not done; False where the process died."""
        position = read_position(self.lake)
        begun = min((end for ends in position.ends.values() for end in ends.values()), default=0)
        topic = self.log[0].topic if self.log else ""
        checkpoint: Any = SimpleNamespace(range_of=lambda batch: {topic: {0: self.plans[batch]}})
        sink = BronzeSink(self.lake, Start(position, self.generation, checkpoint, {}), {}, RULES, now=lambda: NOW)
        self.on_step = on_step or (lambda _: None)
        try:
            while True:
                if self.done == len(self.plans):
                    taken = self.plans[-1][1] if self.plans else begun
                    if taken == len(self.log):
                        return True
                    self.plans.append((taken, len(self.log)))
                frame: Any = Frame(self.log[slice(*self.plans[self.done])])
                sink(frame, self.done)
                self.done += 1
        except Died:
            return False
        finally:
            self.on_step = lambda _: None

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.lake.snapshot(table).delta.to_pyarrow_table().to_pylist()

    def offsets(self, table: str) -> list[int]:
        return sorted(row["kafka_offset"] for row in self.rows(table))
