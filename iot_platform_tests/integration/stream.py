"""A small deployment of its own for a test of the stream: own state, own topics, the session's broker and Spark."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable

from iot_platform.contracts.timestamps import render
from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake.lake import Lake
from iot_platform.settings import Settings
from iot_platform.topics import load_topics
from iot_platform_tests.contracts.messages import message

Header = tuple[str, bytes | None]


@dataclass(frozen=True)
class Stream:
    """What a test of ingestion needs at hand."""

    settings: Settings

    @property
    def lake(self) -> Lake:
        return Lake(self.settings)

    def topic(self, contract: str) -> str:
        return load_topics(self.settings)[contract].name

    def send(
        self, values: Iterable[bytes | None], contract: str = "sensor_reading", *, partition: int = 0,
        headers: Sequence[Header] = (), key: bytes | None = b"key",
    ) -> list[tuple[int, bytes | None]]:  # fmt: skip
        """Produce these values in order; their offsets with them."""
        from confluent_kafka import Producer

        producer = Producer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap, "acks": "all", "message.max.bytes": 32 << 20,
                "linger.ms": 5, "log_level": 0,
            }
        )  # fmt: skip
        offsets: list[tuple[int, bytes | None]] = []

        def delivered(error: Any, answer: Any) -> None:
            assert error is None, error
            offsets.append((answer.offset(), answer.value()))

        for value in values:
            producer.produce(
                self.topic(contract), value=value, key=key, headers=list(headers), partition=partition, on_delivery=delivered
            )
            producer.poll(0)
        assert producer.flush(60) == 0
        return offsets

    def version(self, table: str) -> int:
        return DeltaTable(self.lake.path(table)).version()

    def rows(self, table: str) -> pl.DataFrame:
        return pl.read_delta(self.lake.path(table)).sort("topic", "kafka_partition", "kafka_offset")

    @property
    def readings(self) -> pl.DataFrame:
        return self.rows(READINGS)

    @property
    def quarantine(self) -> pl.DataFrame:
        return self.rows(QUARANTINE)

    def consumed(self, contract: str = "sensor_reading", partition: int = 0) -> list[int]:
        """Every offset that is in either table, as often as it is there (once a message)."""
        here = (pl.col("topic") == self.topic(contract)) & (pl.col("kafka_partition") == partition)
        taken = self.readings.filter(here)
        assert taken.select("kafka_offset", "metric").is_duplicated().sum() == 0
        offsets = taken["kafka_offset"].unique().to_list() + self.quarantine.filter(here)["kafka_offset"].to_list()
        return sorted(offsets)

    def metadata(self, table: str) -> dict[str, Any]:
        """The newest commit's user metadata."""
        return json.loads(DeltaTable(self.lake.path(table)).history(1)[0]["userMetadata"])

    @property
    def checkpoint(self) -> Path:
        return self.settings.checkpoints / "bronze"


def now_us() -> int:
    return time.time_ns() // 1_000


def readings_at(*moments: int, sensor: str = "s-1", value: float = 1.5) -> list[bytes]:
    """Valid sensor readings at these event times (µs since the epoch)."""
    return [
        json.dumps(message("sensor_reading", sensor_id=sensor, value=value, timestamp=render(moment))).encode()
        for moment in moments
    ]
