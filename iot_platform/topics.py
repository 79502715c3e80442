"""The Kafka topics: which there are (one file), and bringing a broker to what the file says.

One topic a contract; a contract's shape is in ``contracts``, the broker's address in ``local.kafka``.
"""
# The client documents these names as its own without exporting them in the way that checkers expect:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iot_platform.errors import InputError, ServiceError
from iot_platform.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

DAY_MS = 24 * 60 * 60 * 1000
# Above every message that a contract allows: one that is too large must arrive to be quarantined as such.
MESSAGE_MAX_BYTES = 32 * 1024 * 1024
ANSWER_SECONDS = 20
DEAD_LETTER = "dead_letter"  # stands where a topic's contract does
DEAD_LETTER_DAYS = 30
REASON_BYTES = 1024 * 1024  # what headers add to a message of the largest size
KEYS = {"name", "partitions", "retention_days"}


@dataclass(frozen=True)
class Topic:
    """One topic: its contract's name, its own, how many partitions, for how many days it keeps messages."""

    contract: str
    name: str
    partitions: int
    retention_days: float
    max_message_bytes: int = MESSAGE_MAX_BYTES

    @property
    def config(self) -> dict[str, str]:
        """What the broker is told: arrival times, so that history replayed from years ago does not expire on the spot."""
        return {
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(round(self.retention_days * DAY_MS)),
            "max.message.bytes": str(self.max_message_bytes),
        }


@dataclass(frozen=True)
class TopicResult:
    """What was done for one topic, and how many partitions it has now."""

    topic: Topic
    action: Literal["created", "extended", "configured", "unchanged"]
    partitions: int
    note: str = ""


def load_topics(settings: Settings) -> dict[str, Topic]:
    """The topics by contract; ``InputError`` names the file and the key that is wrong."""
    from iot_platform.contracts.wire import CONTRACTS

    path = settings.topics_file
    content = _read(path)
    topics: dict[str, Topic] = {}
    for contract, entry in content.items():
        key = f"topics.{contract}"
        if contract not in CONTRACTS:
            raise _wrong(path, key, f"no such contract; there are {', '.join(CONTRACTS)}")
        topics[contract] = _topic(path, contract, entry)
    names = [topic.name for topic in topics.values()]
    for topic in topics.values():
        if names.count(topic.name) > 1:
            raise _wrong(path, f"topics.{topic.contract}.name", f"{topic.name} is the topic of another contract too")
        if settings.dead_letter and topic.name == settings.dead_letter_topic:
            raise _wrong(path, f"topics.{topic.contract}.name", f"{topic.name} is the dead-letter topic")
    return topics


def dead_letter_topic(settings: Settings) -> Topic:
    """The topic of what could not be a reading: one partition, so that all of it stands in one order."""
    name = settings.dead_letter_topic
    return Topic(DEAD_LETTER, name, 1, DEAD_LETTER_DAYS, MESSAGE_MAX_BYTES + REASON_BYTES)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "Set IOT_TOPICS_FILE to a file that can be read") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not YAML: {getattr(error, 'problem', error)}", "Correct the file") from None
    topics = content.get("topics") if isinstance(content, dict) else None
    if not isinstance(topics, dict) or not topics:
        raise _wrong(path, "topics", "must map each contract to its topic")
    return topics


def _topic(path: Path, contract: str, entry: object) -> Topic:
    key = f"topics.{contract}"
    if not isinstance(entry, dict):
        raise _wrong(path, key, f"must have the keys {', '.join(sorted(KEYS))}")
    for name in entry.keys() - KEYS:
        raise _wrong(path, f"{key}.{name}", f"no such key; there are {', '.join(sorted(KEYS))}")
    name, partitions, days = entry.get("name"), entry.get("partitions"), entry.get("retention_days")
    if not isinstance(name, str) or not name:
        raise _wrong(path, f"{key}.name", "must be the topic's name")
    if type(partitions) is not int or partitions < 1:
        raise _wrong(path, f"{key}.partitions", "must be a whole number from 1 on")
    if not isinstance(days, int | float) or isinstance(days, bool) or not days > 0:
        raise _wrong(path, f"{key}.retention_days", "must be a number above 0")
    return Topic(contract, name, partitions, days)


def _wrong(path: Path, key: str, what: str) -> InputError:
    return InputError(f"{path}: {key}: {what}", "Correct the file")


def create_topics(settings: Settings) -> list[TopicResult]:
    """Bring the broker to what the file says; the second time nothing changes. No topic or partition is ever taken away.

    Raises ``ServiceError`` without a broker, or when it refuses.
    """
    from iot_platform.local.kafka import bootstrap
    from iot_platform.local.kafka_client import admin_client
    from iot_platform.local.process import wait_until

    topics = load_topics(settings)
    if settings.dead_letter:
        topics[DEAD_LETTER] = dead_letter_topic(settings)
    address = bootstrap(settings)
    admin = admin_client(settings, address)
    existing = _partition_counts(admin, address)
    fresh = {topic.name for topic in topics.values() if topic.name not in existing and _create(admin, topic)}
    names = {topic.name for topic in topics.values()}

    def all_show() -> bool:
        existing.update(_partition_counts(admin, address))
        return names <= existing.keys()

    # A broker answers that a topic is made a moment before it knows it itself.
    if not names <= existing.keys() and not wait_until(all_show, ANSWER_SECONDS):
        raise ServiceError(f"the broker at {address} made the topics and does not show them", "Run it again")
    return [
        TopicResult(topic, "created", topic.partitions)
        if topic.name in fresh
        else _adjust(admin, topic, existing[topic.name])
        for topic in topics.values()
    ]


def ensure_topic(settings: Settings, topic: Topic) -> bool:
    """Make one topic where it is missing; whether it was. Raises ``ServiceError`` without a broker, or when it refuses."""
    from iot_platform.local.kafka import bootstrap
    from iot_platform.local.kafka_client import admin_client

    address = bootstrap(settings)
    admin = admin_client(settings, address)
    return topic.name not in _partition_counts(admin, address) and _create(admin, topic)


def _partition_counts(admin: AdminClient, address: str) -> dict[str, int]:
    from confluent_kafka import KafkaException

    try:
        metadata = admin.list_topics(timeout=ANSWER_SECONDS)
    except KafkaException:
        raise ServiceError(
            f"the Kafka broker at {address} does not answer",
            "Look at `iot services status`, or correct IOT_KAFKA_BOOTSTRAP",
        ) from None
    return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}


def _create(admin: AdminClient, topic: Topic) -> bool:
    """Make the topic; False when it is there by now."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    # Replication -1 is the broker's own default: 1 on the local one, what its operators chose on a cluster.
    new = NewTopic(topic.name, topic.partitions, replication_factor=-1, config=topic.config)
    future = admin.create_topics([new])[topic.name]
    failure = future.exception(ANSWER_SECONDS)
    exists = isinstance(failure, KafkaException) and failure.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    if not exists:
        _answer(topic, future)
    return not exists


def _adjust(admin: AdminClient, topic: Topic, partitions: int) -> TopicResult:
    """Add the partitions that an existing topic lacks and set its settings."""
    from confluent_kafka.admin import NewPartitions

    if partitions < topic.partitions:
        _answer(topic, admin.create_partitions([NewPartitions(topic.name, topic.partitions)])[topic.name])
        _configure(admin, topic)
        return TopicResult(topic, "extended", topic.partitions)
    note = ""
    if partitions > topic.partitions:
        note = f"{topic.name} keeps its {partitions} partitions: Kafka takes none away, the file says {topic.partitions}"
    return TopicResult(topic, "configured" if _configure(admin, topic) else "unchanged", partitions, note)


def _configure(admin: AdminClient, topic: Topic) -> bool:
    """Set the settings that differ; whether any did."""
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType


    asked = ConfigResource(ResourceType.TOPIC, topic.name)
    now = _answer(topic, admin.describe_configs([asked])[asked])
    changes = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in topic.config.items()
        if name not in now or now[name].value != value
    ]
    if not changes:
        return False
    wanted = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=changes)
    _answer(topic, admin.incremental_alter_configs([wanted])[wanted])
    return True


def _answer(topic: Topic, future: Future[Any]) -> Any:
    from confluent_kafka import KafkaException

    try:
        return future.result(ANSWER_SECONDS)
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        raise ServiceError(
            f"topic {topic.name}: the broker refused: {reason}", "Correct the topics file or ask its operators"
        ) from None
