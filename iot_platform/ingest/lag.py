"""How far Bronze is behind Kafka. Cheap and bounded: no Spark, one question to the broker, one look at the tables."""

from __future__ import annotations

from dataclasses import dataclass

from iot_platform.ingest.broker import ANSWER_SECONDS, Range, held_offsets
from iot_platform.ingest.position import Ends, read_position
from iot_platform.lake.lake import Lake
from iot_platform.settings import Settings
from iot_platform.topics import load_topics


@dataclass(frozen=True)
class TopicLag:
    """One topic, summed over its partitions. ``lag`` counts offsets that wait, control records of transactions included."""

    end_offset: int
    committed_offset: int
    lag: int


def committed_offsets(settings: Settings) -> Ends:
    """Per topic and partition the offset below which all is in Bronze or quarantine, from the tables alone."""
    return read_position(Lake(settings)).ends


def end_offsets(settings: Settings, seconds: float = ANSWER_SECONDS) -> Ends:
    """Per topic and partition the offset that the next message gets. Raises ``ServiceError`` without a broker."""
    held = held_offsets(settings, [topic.name for topic in load_topics(settings).values()], seconds)
    return {topic: {partition: span.high for partition, span in spans.items()} for topic, spans in held.offsets.items()}


def lag(settings: Settings, seconds: float = ANSWER_SECONDS) -> dict[str, TopicLag]:
    """Per topic how far Bronze is behind. Raises ``ServiceError`` without a broker."""
    held = held_offsets(settings, [topic.name for topic in load_topics(settings).values()], seconds)
    return lag_of(held.offsets, committed_offsets(settings))


def lag_of(held: dict[str, dict[int, Range]], ends: Ends) -> dict[str, TopicLag]:
    """The same from offsets already at hand."""
    return {
        topic: TopicLag(
            sum(span.high for span in spans.values()),
            sum(ends.get(topic, {}).get(partition, 0) for partition in spans),
            sum(
                max(0, span.high - max(span.low, ends.get(topic, {}).get(partition, 0)))
                for partition, span in spans.items()
            ),
        )
        for topic, spans in held.items()
    }
