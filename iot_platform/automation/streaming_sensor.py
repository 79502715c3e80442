"""The streaming sensor: asks for a drain when a topic is ahead of Bronze. Its look at Kafka is bounded in time."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

import dagster as dg

from iot_platform.assets.bronze import BRONZE
from iot_platform.assets.lateness import lateness
from iot_platform.assets.metadata import asset_key, snapshot_metadata
from iot_platform.assets.platform import Platform
from iot_platform.assets.registry import REGISTRY
from iot_platform.assets.versions import level_tags
from iot_platform.automation import runs
from iot_platform.automation.priorities import DRAIN as DRAIN_PRIORITY
from iot_platform.automation.priorities import priority_tag
from iot_platform.errors import ServiceError
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import bronze_level

LOOK_SECONDS = 3.0  # a sensor that hangs stops the daemon
INTERVAL_SECONDS = 5
AT_ONCE = 500  # storage ids in one query
MOST_EVENTS = 25  # that one tick reports: Dagster writes them one by one
DRAIN = "drain"  # the request that is repeated for ever


def decide(
    behind: Mapping[str, int], instance: dg.DagsterInstance, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a drain when something waits, none is under way, and the last failures are long enough ago.

    ``behind``: per topic, how many offsets Bronze has not committed.
    """
    if not any(behind.values()):
        return dg.SkipReason("Bronze has everything that is in the topics")
    if is_draining(instance):
        return dg.SkipReason("a drain is under way")
    failures = runs.failures_in_a_row(instance, DRAIN)
    if wait := failures.wait(now):
        return dg.SkipReason(f"the last {failures.count} drain(s) failed; tried again in {wait.total_seconds():.0f} s")
    return dg.RunRequest(
        asset_selection=[asset_key(table) for table in (*BRONZE, *REGISTRY)],
        partition_key=now.date().isoformat(),
        tags={"iot/behind": str(sum(behind.values())), **priority_tag(DRAIN_PRIORITY), **runs.tags(DRAIN)},
    )


def is_draining(instance: dg.DagsterInstance) -> bool:
    return runs.makes(runs.unfinished(instance), asset_key(BRONZE[0]))


def commits_to_report(
    lake: Lake, instance: dg.DagsterInstance, cursor: str | None
) -> tuple[list[dg.AssetMaterialization], str]:
    """A materialization of each date whose newest commit Dagster was not told of; and the new cursor.

    The cursor is the largest ``ingest_seq`` that was looked at, so that only newer dates are compared with Dagster's
    record, and how often dates had been redriven or erased: when that moved, those dates are compared too. Without one, all
    are. It stays where it is while there is more to tell than one tick can; newest dates are told first. Drains report
    theirs themselves; a redrive, a continuous ingest or a drain that was killed does not.
    """
    seen, _, known = (cursor or "0").partition("+")
    newest = int(seen)
    changes = sum(lake.snapshot(BRONZE[0]).changes.values())
    events: list[dg.AssetMaterialization] = []
    for table in BRONZE:
        snapshot = lake.snapshot(table)
        days = {day for day, seq in snapshot.sequences.items() if seq > int(seen)}
        newest = max([newest, *(snapshot.sequences[day] for day in days)])
        if changes != int(known or 0):
            days |= snapshot.changes.keys()
        moved = {day: bronze_level(snapshot, day) for day in days}
        told = reported_levels(instance, asset_key(table), moved)
        untold = {day: level for day, level in sorted(moved.items()) if level > told.get(day, 0)}
        late = lateness(lake, snapshot, list(untold)[-MOST_EVENTS:])
        events += [
            dg.AssetMaterialization(
                asset_key(table),
                partition=day.isoformat(),
                metadata={**snapshot_metadata(snapshot, day), **late.get(day, {}), "level": level, "by": "ingest"},
                tags=level_tags(level),
            )
            for day, level in untold.items()
        ]
    if len(events) > MOST_EVENTS:
        newest_dates = sorted(events, key=lambda event: event.partition or "", reverse=True)
        return newest_dates[:MOST_EVENTS], cursor or "0"
    return events, f"{newest}+{changes}" if changes else str(newest)


def reported_levels(instance: dg.DagsterInstance, key: dg.AssetKey, days: Iterable[date]) -> dict[date, int]:
    """The level that the newest materialization of each of these dates names, of those that have one."""
    partitions = {day.isoformat() for day in days}
    if not partitions:
        return {}
    storage = instance.event_log_storage
    newest = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION, partitions)
    found: dict[date, int] = {}
    ids = sorted(newest.values())
    for first in range(0, len(ids), AT_ONCE):
        chosen = ids[first : first + AT_ONCE]
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, storage_ids=chosen), limit=len(chosen)
        ).records
        for record in records:
            event = record.asset_materialization
            if event and event.partition and (level := event.metadata.get("level")):
                found[date.fromisoformat(event.partition)] = int(level.value)  # pyright: ignore[reportArgumentType]
    return found


def continuous(platform: Platform) -> str:
    """What is said while a continuous ingest runs. The broker is asked only when that has not moved for long."""
    from iot_platform.ingest.lag import lag
    from iot_platform.ingest.standing import standing, stands_for

    now = platform.now()
    stands = standing(platform.settings, now)
    if stands.progress and stands_for(stands.progress, now) > platform.settings.stuck_seconds:
        try:
            behind = {topic: found.lag for topic, found in lag(platform.settings, LOOK_SECONDS).items()}
        except ServiceError as error:
            return f"a continuous ingest runs, but {error}"
        stands = standing(platform.settings, now, behind)
    return f"a continuous ingest runs, but {stands.said}" if stands.is_in_trouble else "a continuous ingest runs"


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
    ) -> dg.SensorResult:
        from iot_platform.ingest.lag import lag
        from iot_platform.ingest.lease import holder
        from iot_platform.ingest.standing import standing

        ingesting = holder(platform.settings)
        is_continuous = bool(ingesting and ingesting.mode == "continuous")
        events: Sequence[dg.AssetMaterialization] = ()
        cursor = context.cursor
        # A drain tells of its dates at its end: until then it is too early to say that nobody did.
        if is_continuous or not (ingesting or is_draining(context.instance)):
            events, cursor = commits_to_report(platform.lake, context.instance, cursor)
        asked: dg.RunRequest | dg.SkipReason
        stands = standing(platform.settings)
        if is_continuous:
            asked = dg.SkipReason(continuous(platform))
        elif stands.restarts_soon:
            asked = dg.SkipReason(stands.said)
        else:
            try:
                behind = {topic: found.lag for topic, found in lag(platform.settings, LOOK_SECONDS).items()}
                asked = decide(behind, context.instance, platform.now())
            except ServiceError as error:
                asked = dg.SkipReason(str(error))
        if isinstance(asked, dg.RunRequest):
            return dg.SensorResult(run_requests=[asked], asset_events=list(events), cursor=cursor)
        return dg.SensorResult(skip_reason=asked, asset_events=list(events), cursor=cursor)

    return kafka_ahead
