"""Messages of a small fleet, in the test's own words: what a device said, and the bytes that it sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

TOPIC_OF = {
    "environment_reading": "iot.environment-readings",
    "sensor_reading": "iot.sensor-readings",
    "device_event": "iot.device-events",
}
FIELD_OF = {"energy": "energy_consumption"}


@dataclass(frozen=True)
class Said:
    """One message: who, when (UTC), and the values by metric (None: an explicit null).

    ``event`` numbers a device event: the same number is the same event, re-sent, whatever else it says.
    """

    contract: str
    device: str
    moment: datetime
    values: tuple[tuple[str, float | None], ...]
    site: str | None = None
    event: int = 0
    duration: float = 0.0

    @property
    def text(self) -> bytes:
        moment = self.moment.isoformat().replace("+00:00", "Z")
        content: dict[str, object]
        if self.contract == "device_event":
            ((kind, value),) = self.values
            content = {
                "event_id": self.event_id, "device_id": self.device, "device_type": kind, "timestamp": moment,
                "event_duration": self.duration, "value": value, "status": "normal",
                "metadata": {"location": "zone-A", "firmware": "1.0"},
            }  # fmt: skip
            return json.dumps(content).encode()
        content = {"sensor_id": self.device, "timestamp": moment}
        if self.contract == "sensor_reading":
            ((metric, value),) = self.values
            content |= {"sensor_type": metric, "value": value}
        else:
            content |= {FIELD_OF.get(metric, metric): value for metric, value in self.values}
        if self.site is not None:
            content["location"] = self.site
        return json.dumps(content).encode()

    @property
    def event_id(self) -> str:
        return str(UUID(int=self.event))

    def identity(self, metric: str) -> tuple[object, ...]:
        """What makes two readings the same one, sent twice."""
        if self.contract == "device_event":
            return self.contract, self.event, metric
        return self.contract, self.device, self.moment, metric


BROKEN = b'{"sensor_id": "d0", "timestamp": '


class Place(NamedTuple):
    """Where Kafka holds a message, and when it arrived there (µs since the epoch)."""

    arrived: int
    topic: str
    partition: int
    offset: int


@dataclass
class Held:
    """A message in the topic; ``said`` is None for bytes that no contract reads."""

    place: Place
    said: Said | None
    raw: bytes


@dataclass(frozen=True)
class Taken:
    """One reading as the test knows it: from the message, never from a table. ``batch``: in which it landed."""

    said: Said
    metric: str
    value: float | None
    place: Place
    batch: int

    @property
    def key(self) -> tuple[str, int, int, str]:
        return self.place.topic, self.place.partition, self.place.offset, self.metric


@dataclass
class Log:
    """All that was sent, by partition in order; Kafka without Kafka."""

    partitions: dict[tuple[str, int], list[Held]] = field(default_factory=dict)

    def append(self, said: Said | None, contract: str, partition: int, arrived: int) -> None:
        topic = TOPIC_OF[contract]
        queue = self.partitions.setdefault((topic, partition), [])
        if queue:
            arrived = max(arrived, queue[-1].place.arrived)  # the broker's clock is the arrival, and it only grows
        place = Place(arrived, topic, partition, len(queue))
        queue.append(Held(place, said, said.text if said else BROKEN))

    def ends(self) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for (topic, partition), queue in self.partitions.items():
            found.setdefault(topic, {})[partition] = len(queue)
        return found

    def sent(self) -> dict[tuple[str, int, int], list[str] | None]:
        """Every message by its place: the metrics that it says, or None for bytes that no contract reads."""
        held = (one for queue in self.partitions.values() for one in queue)
        return {one.place[1:]: [name for name, _ in one.said.values] if one.said else None for one in held}

    def between(self, ranges: dict[str, dict[int, tuple[int, int]]]) -> Iterator[Held]:
        """The messages of these offsets, partition by partition."""
        for topic, spans in ranges.items():
            for partition, (first, until) in spans.items():
                yield from self.partitions.get((topic, partition), [])[first:until]
