"""The observation sensor: what Dagster shows of the topics, their end offsets and how far Bronze is behind.

A topic is an external asset: nothing here makes it, so that news of it come as an observation of its figures, and, when
messages came, as a materialization too: that is what Dagster judges a topic's freshness by.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import dagster as dg

from iot_platform.assets.platform import Platform
from iot_platform.errors import ServiceError

LOOK_SECONDS = 3.0  # a sensor that hangs stops the daemon
INTERVAL_SECONDS = 30
MOST_SAMPLES = 240  # of a topic's end offset, while Bronze is behind it
# Every message counts as the same version of the topic: what is made from it is told to be outdated by its level alone.
SAME_VERSION = {"dagster/data_version": "stream"}

Sample = tuple[int, float]  # an end offset, and when it was first seen (epoch seconds)


def observations(
    figures: Mapping[str, Mapping[str, int]], cursor: str | None, now: datetime
) -> tuple[list[dg.AssetObservation | dg.AssetMaterialization], str]:
    """What there is to tell of topics whose figures changed since the cursor, and the new cursor.

    ``figures``: per topic end offset, committed offset and lag. ``lag_seconds`` is added: how long the oldest message that
    waits was seen to wait, to the sensor's interval; 0 when none waits.
    """
    before: dict[str, dict[str, Any]] = json.loads(cursor) if cursor else {}
    events: list[dg.AssetObservation | dg.AssetMaterialization] = []
    state: dict[str, dict[str, Any]] = {}
    for topic, values in figures.items():
        last = before.get(topic, {})
        samples = _waiting(last.get("samples", ()), values, now.timestamp())
        told = {**values, "lag_seconds": round(now.timestamp() - samples[0][1]) if samples else 0}
        key = dg.AssetKey(["kafka", topic])
        if last.get("told") != told:
            events.append(dg.AssetObservation(key, metadata=told))
        if values["end_offset"] > last.get("told", {}).get("end_offset", 0):
            metadata = {"end_offset": values["end_offset"], "by": "observation"}
            events.append(dg.AssetMaterialization(key, metadata=metadata, tags=SAME_VERSION))
        state[topic] = {"told": told, "samples": samples}
    return events, json.dumps(state, sort_keys=True)


def _waiting(samples: Sequence[Sample], values: Mapping[str, int], now: float) -> list[Sample]:
    """When the ends above the committed offset were seen, oldest first. Of too many every second one is kept."""
    if not values["lag"]:
        return []
    kept: list[Sample] = [(end, seen) for end, seen in samples if end > values["committed_offset"]]
    if not kept or kept[-1][0] < values["end_offset"]:
        kept.append((values["end_offset"], now))
    return kept if len(kept) <= MOST_SAMPLES else [*kept[:-1:2], kept[-1]]


def observation_sensor() -> dg.SensorDefinition:
    """Observes the Kafka topics."""

    @dg.sensor(
        name="topics_observed",
        description="Observes every topic: end offset, committed offset, lag in messages and in seconds.",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def topics_observed(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        from iot_platform.ingest.lag import lag

        try:
            figures = {topic: asdict(found) for topic, found in lag(platform.settings, LOOK_SECONDS).items()}
        except ServiceError as error:
            return dg.SkipReason(str(error))
        changed, cursor = observations(figures, context.cursor, platform.now())
        return dg.SensorResult(asset_events=changed, cursor=cursor)

    return topics_observed
