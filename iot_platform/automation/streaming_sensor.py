"""The streaming sensor: asks for a drain when a topic is ahead of Bronze. Its look at Kafka is bounded in time."""

from collections.abc import Mapping
from datetime import datetime

import dagster as dg

from iot_platform.assets.bronze import BRONZE
from iot_platform.assets.metadata import asset_key, snapshot_metadata
from iot_platform.assets.platform import Platform
from iot_platform.assets.registry import REGISTRY
from iot_platform.automation import runs
from iot_platform.errors import ServiceError
from iot_platform.lake.lake import Lake

LOOK_SECONDS = 5.0  # a sensor that hangs stops the daemon
INTERVAL_SECONDS = 5
DRAIN = "drain"  # the request that is repeated for ever


def decide(
    behind: Mapping[str, int], instance: dg.DagsterInstance, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a drain when something waits, none is under way, and the last failures are long enough ago.

    ``behind``: per topic, how many offsets Bronze has not committed.
    """
    if not any(behind.values()):
        return dg.SkipReason("Bronze has everything that is in the topics")
    if runs.makes(runs.unfinished(instance), asset_key(BRONZE[0])):
        return dg.SkipReason("a drain is under way")
    failures = runs.failures_in_a_row(instance, DRAIN)
    if wait := failures.wait(now):
        return dg.SkipReason(f"the last {failures.count} drain(s) failed; tried again in {wait.total_seconds():.0f} s")
    return dg.RunRequest(
        asset_selection=[asset_key(table) for table in (*BRONZE, *REGISTRY)],
        partition_key=now.date().isoformat(),
        tags={"iot/behind": str(sum(behind.values())), **runs.tags(DRAIN)},
    )


def commits_to_report(lake: Lake, cursor: str | None) -> tuple[list[dg.AssetMaterialization], str]:
    """What a continuous ingest committed since the cursor, as a materialization a date; and the new cursor.

    The cursor is the largest ``ingest_seq`` that was reported. The first look reports nothing: it only marks where it is.
    """
    snapshots = {table: lake.snapshot(table) for table in BRONZE}
    newest = max((seq for snapshot in snapshots.values() for seq in snapshot.sequences.values()), default=0)
    seen = newest if cursor is None else int(cursor)
    events = [
        dg.AssetMaterialization(
            asset_key(table),
            partition=day.isoformat(),
            metadata={**snapshot_metadata(snapshot, day), "level": seq, "by": "continuous ingest"},
        )
        for table, snapshot in snapshots.items()
        for day, seq in snapshot.sequences.items()
        if seq > seen
    ]
    return events, str(newest)


def streaming_sensor() -> dg.SensorDefinition:
    """Asks for a drain of Kafka into Bronze, and the registries with it."""

    @dg.sensor(
        name="kafka_ahead",
        description="Asks for a drain when a topic's end offset is ahead of what Bronze has committed.",
        target=dg.AssetSelection.assets(*(asset_key(table) for table in (*BRONZE, *REGISTRY))),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def kafka_ahead(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason | dg.SensorResult:
        from iot_platform.ingest.lag import lag
        from iot_platform.ingest.lease import holder

        ingesting = holder(platform.settings)
        if ingesting and ingesting.mode == "continuous":
            events, cursor = commits_to_report(platform.lake, context.cursor)
            return dg.SensorResult(asset_events=list(events), cursor=cursor, skip_reason="a continuous ingest runs")
        try:
            behind = {topic: found.lag for topic, found in lag(platform.settings, LOOK_SECONDS).items()}
        except ServiceError as error:
            return dg.SkipReason(str(error))
        return decide(behind, context.instance, platform.now())

    return kafka_ahead
