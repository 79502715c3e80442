"""What of a history was sent already, so that a second run adds nothing and an interrupted one goes on where it stopped.

One state file a fleet and Kafka cluster. A *window* is one contract's arrivals of one UTC date. It is opened with the
topic's ends before anything of it is sent; after an interruption Kafka itself says what of an open window it holds: each
message carries the header ``simulation`` with its place in the window.
"""
# The client documents these names as its own without exporting them in the way that checkers expect:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from iot_platform.errors import ServiceError
from iot_platform.local.kafka import admin_client
from iot_platform.local.process import read_state, write_state
from iot_platform.settings import Settings
from iot_platform.simulator.producer import Delivered

if TYPE_CHECKING:
    from confluent_kafka import Consumer

HEADER = "simulation"
ANSWER_SECONDS = 10
SILENCE_SECONDS = 20
PAUSE_SECONDS = 0.1


@dataclass
class WindowState:
    """How far a window is sent. ``sent_until_us``: every arrival before it is delivered. ``open_until_us``: 0, or how far
    the run wants to come whose end is not known; ``from_offsets``: the topic's ends when that run began.
    """

    sent_until_us: int = 0
    open_until_us: int = 0
    from_offsets: dict[str, int] = field(default_factory=dict)
    messages: int = 0


class Journal:
    """The state file of one fleet on one cluster; hold its lock (``lock_path``) while using it."""

    def __init__(self, settings: Settings, fleet_key: str, cluster_id: str) -> None:
        name = f"history-{fleet_key}-{''.join(c for c in cluster_id if c.isalnum())[:8] or 'cluster'}"
        self.name = name
        self.path: Path = settings.home / "simulator" / f"{name}.json"
        self.lock_path = self.path.with_suffix(".lock")
        state = read_state(self.path)
        self.first_us: int | None = state.get("first_us")
        self._topic_ids: dict[str, str] = state.get("topic_ids", {})
        self._windows = {key: WindowState(**value) for key, value in state.get("windows", {}).items()}

    def window(self, key: str) -> WindowState:
        return self._windows.setdefault(key, WindowState())

    def begin(self, first_us: int) -> None:
        """Note the earliest date ever asked for: late readings from before it are not sent."""
        self.first_us = first_us if self.first_us is None else min(self.first_us, first_us)

    def open(self, key: str, until_us: int, ends: dict[int, int]) -> None:
        """Say what is about to be sent; the ends of the first run that opened it stay."""
        state = self.window(key)
        if not state.open_until_us:
            state.from_offsets = {str(partition): offset for partition, offset in ends.items()}
        state.open_until_us = until_us
        self._write()

    def close(self, key: str, messages: int) -> None:
        """The window is delivered as far as it was opened for."""
        state = self.window(key)
        state.sent_until_us, state.open_until_us, state.from_offsets = state.open_until_us, 0, {}
        state.messages += messages
        self._write()

    def forgets(self, contract: str, topic: str, topic_id: str) -> bool:
        """Whether the topic was made anew: then what was sent to the old one is gone, and forgotten here."""
        known = self._topic_ids.get(topic, topic_id)
        self._topic_ids[topic] = topic_id
        if known == topic_id:
            return False
        self._windows = {key: state for key, state in self._windows.items() if not key.startswith(f"{contract}/")}
        self._write()
        return True

    def _write(self) -> None:
        windows = {key: asdict(state) for key, state in sorted(self._windows.items())}
        write_state(self.path, {"first_us": self.first_us, "topic_ids": self._topic_ids, "windows": windows})


class TopicReader:
    """Asks the broker for a topic's identity and ends, and reads a stretch of it."""

    def __init__(self, settings: Settings, address: str) -> None:
        from confluent_kafka import Consumer

        self._admin = admin_client(settings, address)
        config: dict[str, Any] = {
            "bootstrap.servers": address,
            "group.id": "iot-platform-simulator",  # never committed to
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 4 * 1024 * 1024,
            "log_level": 0,
        }
        self._consumer: Consumer = Consumer(config | settings.kafka_options)

    def close(self) -> None:
        self._consumer.close()

    def topic_id(self, topic: str) -> str:
        """What tells the topic from another one of the same name that came after it."""
        from confluent_kafka import KafkaException, TopicCollection

        asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_SECONDS)
        try:
            return str(asked[topic].result().topic_id)
        except KafkaException as error:
            raise _gone(topic, error.args[0].str()) from None

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The offset that each partition's next record will get. A leader that moves, or was just chosen, is waited for."""
        return {partition: self._end(topic, partition) for partition in range(partitions)}

    def _end(self, topic: str, partition: int) -> int:
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        passing = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._UNKNOWN_PARTITION)
        deadline = monotonic() + ANSWER_SECONDS
        while True:
            left = deadline - monotonic()
            try:
                _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=max(left, 0.1))
            except KafkaException as error:
                if left > 0 and error.args[0].code() in passing:
                    sleep(PAUSE_SECONDS)
                    continue
                raise _gone(topic, error.args[0].str()) from None
            return end

    def simulated(self, topic: str, begin: dict[int, int], ends: dict[int, int], window: str) -> Iterator[Delivered]:
        """The window's messages in that stretch; each one's ``tag`` is its place in the window."""
        from confluent_kafka import KafkaError, TopicPartition

        open_ends = {p: end for p, end in ends.items() if end > begin.get(p, 0)}
        if not open_ends:
            return
        self._consumer.assign([TopicPartition(topic, p, begin.get(p, 0)) for p in open_ends])
        prefix = f"{window}/".encode()
        while open_ends:
            message = self._consumer.poll(SILENCE_SECONDS)
            if message is None:
                raise _gone(topic, f"no record in {SILENCE_SECONDS} s")
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None  # a record and an end have both
            if error := message.error():
                if error.code() != KafkaError._PARTITION_EOF:
                    raise _gone(topic, error.str())
                open_ends.pop(partition, None)
                continue
            place = dict(message.headers() or ()).get(HEADER)
            if offset < ends.get(partition, 0) and isinstance(place, bytes) and place.startswith(prefix):
                yield Delivered(topic, partition, offset, int(place[len(prefix) :]))
            if offset + 1 >= ends[partition]:
                open_ends.pop(partition, None)
        self._consumer.unassign()


def _gone(topic: str, reason: str) -> ServiceError:
    return ServiceError(f"topic {topic} cannot be read: {reason}", "See `iot services status`, then run it again")
