"""A producer that runs while faults happen and keeps its own list of what the broker acknowledged: the oracle's one source.

Its messages are drawn from a seed: events (one row), generic readings (two rows) and garbage (quarantine), each with an id
that is found again in the row it must end in.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from iot_platform.contracts.timestamps import render
from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform.topics import load_topics
from iot_platform_tests.contracts.messages import message

Place = tuple[str, int, int]  # topic, partition, offset
BURST_SECONDS = 0.05


@dataclass(frozen=True)
class Sent:
    """One message: its bytes, its id, and the rows it must become, as (table, metric)."""

    contract: str
    id: str
    value: bytes
    rows: tuple[tuple[str, str], ...]


def drawn(rng: random.Random) -> Sent:
    """The next message of this seed, with an event time of now."""
    id_ = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    now = render(time.time_ns() // 1_000)
    kind = rng.random()
    if kind < 0.1:
        return Sent("device_event", id_, f"not json {id_}".encode(), ((QUARANTINE, ""),))
    if kind < 0.6:
        value = message("device_event", event_id=id_, timestamp=now, value=rng.random())
        return Sent("device_event", id_, json.dumps(value).encode(), ((READINGS, "motion"),))
    value = message("generic_reading", sensor_id=id_, timestamp=now, measurements={"co2": rng.random(), "nox": 1.5})
    return Sent("generic_reading", id_, json.dumps(value).encode(), ((READINGS, "co2"), (READINGS, "nox")))


@dataclass
class Producer:
    """``acknowledged``: by place; ``unanswered``: sent, and nobody knows whether it arrived."""

    settings: Settings
    seed: int
    rate: int
    acknowledged: dict[Place, Sent] = field(default_factory=dict)
    unanswered: dict[str, Sent] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        from confluent_kafka import Producer as Client

        self._random = random.Random(self.seed)
        self._topics = {contract: topic.name for contract, topic in load_topics(self.settings).items()}
        self._client = Client(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap, "acks": "all", "enable.idempotence": True,
                "linger.ms": 5, "message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 500, "log_level": 0,
            }
        )  # fmt: skip

    def send(self, count: int) -> None:
        """Send so many and go on at once."""
        for _ in range(count):
            sent = drawn(self._random)
            self.unanswered[sent.id] = sent
            self._client.produce(
                self._topics[sent.contract], value=sent.value, key=sent.id.encode(),
                on_delivery=lambda error, answer, sent=sent: self._answered(sent, error, answer),
            )  # fmt: skip
        self._client.poll(0)

    def _answered(self, sent: Sent, error: Any, answer: Any) -> None:
        if error is not None:
            self.failures.append(str(error))
            return
        self.acknowledged[answer.topic(), answer.partition(), answer.offset()] = sent
        del self.unanswered[sent.id]

    def finish(self, seconds: float = 120) -> None:
        """Wait for every answer."""
        assert self._client.flush(seconds) == 0, f"{len(self.unanswered)} messages are still unanswered"

    @contextmanager
    def running(self) -> Iterator[Producer]:
        """Send ``rate`` messages a second from a thread of its own for the time of the block; then all are answered."""
        done = threading.Event()

        def go() -> None:
            began, count = time.monotonic(), 0
            while not done.wait(BURST_SECONDS):
                due = int((time.monotonic() - began) * self.rate) - count
                self.send(due)
                count += due

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
        self.finish()

    def wait_for(self, acknowledged: int, seconds: float = 60) -> None:
        """Wait until so many are acknowledged."""
        assert wait_until(lambda: len(self.acknowledged) >= acknowledged, seconds), "the broker does not take messages"
