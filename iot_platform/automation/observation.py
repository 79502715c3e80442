"""The observation sensor: what Dagster shows of the topics, their end offsets and how far Bronze is behind."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import dagster as dg

from iot_platform.assets.platform import Platform
from iot_platform.errors import ServiceError

LOOK_SECONDS = 5.0  # a sensor that hangs stops the daemon
INTERVAL_SECONDS = 30


def observations(
    figures: Mapping[str, Mapping[str, int]], cursor: str | None
) -> tuple[list[dg.AssetObservation], str]:
    """An observation of every topic whose figures changed since the cursor, and the new cursor."""
    before: dict[str, object] = json.loads(cursor) if cursor else {}
    changed = [
        dg.AssetObservation(dg.AssetKey(["kafka", topic]), metadata=dict(values))
        for topic, values in figures.items()
        if before.get(topic) != dict(values)
    ]
    return changed, json.dumps({topic: dict(values) for topic, values in figures.items()}, sort_keys=True)


def observation_sensor() -> dg.SensorDefinition:
    """Observes the Kafka topics."""

    @dg.sensor(
        name="topics_observed",
        description="Observes every topic: end offset, committed offset, lag.",
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
        changed, cursor = observations(figures, context.cursor)
        return dg.SensorResult(asset_events=list(changed), cursor=cursor)

    return topics_observed
