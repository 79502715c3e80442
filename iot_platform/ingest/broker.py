"""What the broker holds: the readable offsets of every partition of our topics, asked with a bounded wait."""
# The client documents these names as its own without exporting them in the way that checkers expect:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from iot_platform.errors import ServiceError
from iot_platform.settings import Settings

ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Range:
    """Offsets that a partition holds: from ``low`` up to, not including, ``high`` (committed transactions only)."""

    low: int
    high: int


@dataclass(frozen=True)
class Held:
    """What the broker holds: offsets per topic and partition, and each topic's identity: one made again has another."""

    offsets: dict[str, dict[int, Range]]
    topic_ids: dict[str, str]


def held_offsets(settings: Settings, topics: Iterable[str], seconds: float = ANSWER_SECONDS) -> Held:
    """The offsets that can be read now.

    Raises ``ServiceError`` without a broker, for a topic that it lacks, and when it does not answer within ``seconds``.
    """
    from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    from iot_platform.local.kafka import admin_client, bootstrap

    address = bootstrap(settings)
    admin = admin_client(settings, address)
    try:
        found = admin.list_topics(timeout=seconds).topics
        names = list(topics)
        absent = [name for name in names if name not in found or found[name].error is not None]
        if absent:
            raise ServiceError(
                f"the broker at {address} has no topic {', '.join(absent)}", "Make it with `iot topics create`"
            )
        partitions = [TopicPartition(name, partition) for name in names for partition in found[name].partitions]
        questions: list[dict[Any, Any]] = [
            dict.fromkeys(partitions, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        ]
        answers = [
            admin.list_offsets(
                asked,
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=seconds,
            )
            for asked in questions
        ]
        held: dict[str, dict[int, Range]] = {name: {} for name in names}
        for partition in partitions:
            low, high = (answer[partition].result(seconds).offset for answer in answers)
            held[partition.topic][partition.partition] = Range(low, high)
        described = admin.describe_topics(TopicCollection(names), request_timeout=seconds)
        ids = {name: str(answer.result(seconds).topic_id) for name, answer in described.items()}
    except (KafkaException, TimeoutError):
        raise ServiceError(
            f"the Kafka broker at {address} does not answer",
            "Start it with `iot services up`, or correct IOT_KAFKA_BOOTSTRAP",
        ) from None
    return Held(held, ids)
