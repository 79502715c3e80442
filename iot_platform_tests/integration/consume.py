"""Reads a topic whole, for tests: what Kafka really holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from iot_platform.contracts.parse import KafkaRecord
from iot_platform.settings import Settings
from iot_platform.topics import load_topics


def records_of(settings: Settings, contracts: Iterable[str]) -> list[KafkaRecord]:
    """Every record of the contracts' topics, in the order of topic, partition and offset."""
    topics = [load_topics(settings)[contract].name for contract in contracts]
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap, "group.id": "tests", "enable.auto.commit": False,
         "enable.partition.eof": True, "auto.offset.reset": "earliest", "log_level": 0}
    )  # fmt: skip
    found: list[KafkaRecord] = []
    try:
        partitions = consumer.list_topics(timeout=10).topics
        parts = [(topic, partition) for topic in topics for partition in partitions[topic].partitions]
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in parts])
        waiting = set(parts)
        while waiting:
            message: Any = consumer.poll(20)
            assert message is not None, f"Kafka is silent about {sorted(waiting)}"
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                waiting.discard((message.topic(), message.partition()))
                continue
            found.append(
                KafkaRecord(
                    message.topic(), message.partition(), message.offset(), message.timestamp()[1] * 1000,
                    message.key(), message.value(), tuple(message.headers() or ()),
                )
            )  # fmt: skip
    finally:
        consumer.close()
    return sorted(found, key=lambda record: record[:3])
