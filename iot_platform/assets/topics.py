"""The Kafka topics as external assets: nothing here makes them, a sensor observes them (``automation/observation.py``)."""

from __future__ import annotations

import dagster as dg

from iot_platform.assets.metadata import OWNERS
from iot_platform.contracts.wire import CONTRACTS
from iot_platform.settings import Settings
from iot_platform.topics import Topic, load_topics


def topic_key(topic: Topic) -> dg.AssetKey:
    return dg.AssetKey(["kafka", topic.name])


def topic_assets(settings: Settings) -> list[dg.AssetSpec]:
    """One external asset a topic; the topics file alone says which there are."""
    return [
        dg.AssetSpec(
            topic_key(topic),
            description=f"One record per message of contract `{topic.contract}`. {CONTRACTS[topic.contract].description}",
            kinds={"kafka"},
            owners=OWNERS,
            metadata={
                "contract": topic.contract,
                "contract_version": CONTRACTS[topic.contract].version,
                "partitions": topic.partitions,
                "retention_days": topic.retention_days,
            },
        )
        for topic in load_topics(settings).values()
    ]
