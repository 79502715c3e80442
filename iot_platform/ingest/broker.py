"""What the broker holds: the readable offsets of every partition of our topics, asked with a bounded wait."""
# The client documents these names as its own without exporting them in the way that checkers expect:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from iot_platform.errors import ServiceError
from iot_platform.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

ANSWER_SECONDS = 5.0
PATIENCE_SECONDS = 30.0  # with a broker that says nothing about a topic's identity
PAUSE_SECONDS = 0.1


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
    from confluent_kafka import KafkaException

    from iot_platform.local.kafka import admin_client, bootstrap

    address = bootstrap(settings)
    admin = admin_client(settings, address)
    names = list(topics)
    deadline = monotonic() + seconds
    while True:
        left = deadline - monotonic()
        try:
            return _ask(admin, address, names, max(left, 0.1))
        except (KafkaException, TimeoutError) as error:
            # A topic that was made a moment ago, or whose leader moves, answers a little later.
            if left > 0 and _is_passing(error):
                sleep(PAUSE_SECONDS)
                continue
            reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
            raise ServiceError(
                f"the Kafka broker at {address} does not answer: {reason}",
                "Start it with `iot services up`, or correct IOT_KAFKA_BOOTSTRAP",
            ) from None


def topic_ids(
    admin: AdminClient, names: Iterable[str], seconds: float = ANSWER_SECONDS, patience: float = PATIENCE_SECONDS
) -> dict[str, str]:
    """Each topic's identity now; one that is gone, or whose broker is away for ``patience``, is left out.

    A broker that is only slow is asked again: no answer in time says nothing about a topic.
    """
    from confluent_kafka import KafkaException, TopicCollection

    found: dict[str, str] = {}
    unanswered = set(names)
    deadline = monotonic() + patience
    while unanswered:
        for name, answer in admin.describe_topics(TopicCollection(sorted(unanswered)), request_timeout=seconds).items():
            try:
                found[name] = str(answer.result(seconds).topic_id)
            except (KafkaException, TimeoutError) as error:
                if _is_late(error) and monotonic() < deadline:
                    continue
            unanswered.discard(name)
        if unanswered:
            sleep(PAUSE_SECONDS)
    return found


def _is_late(error: Exception) -> bool:
    """No answer in time; not an answer that there is no such topic."""
    from confluent_kafka import KafkaError, KafkaException

    late = {KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
    return not isinstance(error, KafkaException) or error.args[0].code() in late


def _is_passing(error: Exception) -> bool:
    from confluent_kafka import KafkaError, KafkaException

    return isinstance(error, KafkaException) and error.args[0].code() in {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
    }


def _ask(admin: AdminClient, address: str, names: list[str], seconds: float) -> Held:
    from confluent_kafka import IsolationLevel, TopicCollection, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    found = admin.list_topics(timeout=seconds).topics
    absent = [name for name in names if name not in found or found[name].error is not None]
    if absent:
        raise ServiceError(f"the broker at {address} has no topic {', '.join(absent)}", "Make it with `iot topics create`")
    partitions = [TopicPartition(name, partition) for name in names for partition in found[name].partitions]
    questions: list[dict[Any, Any]] = [
        dict.fromkeys(partitions, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
    ]
    answers = [
        admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=seconds)
        for asked in questions
    ]
    described = admin.describe_topics(TopicCollection(names), request_timeout=seconds)
    held: dict[str, dict[int, Range]] = {name: {} for name in names}
    for partition in partitions:
        low, high = (answer[partition].result(seconds).offset for answer in answers)
        held[partition.topic][partition.partition] = Range(low, high)
    return Held(held, {name: str(answer.result(seconds).topic_id) for name, answer in described.items()})
