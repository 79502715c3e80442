"""Bronze: what Kafka delivered. One step drains every topic into readings and quarantine, whatever dates were asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date
from typing import Any

import dagster as dg

from iot_platform.assets.lateness import lateness
from iot_platform.assets.metadata import OWNERS, asset_key, snapshot_metadata, table_metadata
from iot_platform.assets.platform import Platform
from iot_platform.assets.preview import previews
from iot_platform.assets.topics import topic_key
from iot_platform.assets.versions import level_tags
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import PlatformError
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import bronze_level
from iot_platform.lake.snapshot import Snapshot
from iot_platform.settings import Settings
from iot_platform.topics import load_topics

ENGINE = "spark"  # Structured Streaming, whatever makes the tables after it
BRONZE = ("bronze/readings", "bronze/quarantine")
DRAIN_RETRY = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL)


def bronze_assets(settings: Settings, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """``bronze/readings`` and ``bronze/quarantine``, made by one drain of all topics."""
    topics = [topic_key(topic) for topic in load_topics(settings).values()]

    @dg.multi_asset(
        name="drain",
        specs=[
            dg.AssetSpec(
                asset_key(table),
                deps=topics,
                description=TABLES[table].sentences,
                kinds={"spark", "delta"},
                owners=OWNERS,
                metadata=table_metadata(table, settings),
                partitions_def=partitions,
            )
            for table in BRONZE
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=DRAIN_RETRY,
        pool="bronze",
    )
    def drain(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Any:
        """Everything that waits in Kafka, landed exactly once; each date it touched is reported."""
        from iot_platform.ingest import drain as drain_topics

        before = _levels(platform.lake)
        try:
            drained = _fields(drain_topics(platform.settings))
        except PlatformError as error:
            raise dg.Failure(str(error)) from None
        finally:
            touched = _report(context, platform.lake, before)
        for table in BRONZE:
            yield dg.MaterializeResult(
                asset_key(table),
                metadata={**drained, "dates_touched": len(touched[table])},
                data_version=_version(platform.lake, table, context.partition_keys),
            )

    return drain


def _version(lake: Lake, table: str, partitions: Sequence[str]) -> dg.DataVersion | None:
    """The level of the run's one date. Dates of a range share a version, so there Dagster makes one up for the run."""
    if len(partitions) != 1:
        return None
    return dg.DataVersion(str(bronze_level(lake.snapshot(table), date.fromisoformat(partitions[0]))))


def _levels(lake: Lake) -> dict[str, dict[date, int]]:
    return {table: levels_of(lake.snapshot(table)) for table in BRONZE}


def levels_of(snapshot: Snapshot) -> dict[date, int]:
    """The level of every date that has rows."""
    return {day: bronze_level(snapshot, day) for day in snapshot.sequences}


def touched_dates(before: Mapping[date, int], after: Mapping[date, int]) -> list[date]:
    """The dates that were written to meanwhile: their level grew."""
    return sorted(day for day, level in after.items() if level > before.get(day, 0))


def _report(
    context: dg.AssetExecutionContext, lake: Lake, before: Mapping[str, Mapping[date, int]]
) -> dict[str, list[date]]:
    """Tell Dagster of every date that was touched: those of the run by metadata, the others by an event of their own."""
    touched: dict[str, list[date]] = {}
    own = set(context.partition_keys)
    for table in BRONZE:
        snapshot = lake.snapshot(table)
        touched[table] = touched_dates(before[table], levels_of(snapshot))
        days = sorted({*touched[table], *(date.fromisoformat(key) for key in own)})
        looks, late = previews(lake, snapshot, days), lateness(lake, snapshot, days)
        for day in days:
            level = bronze_level(snapshot, day)
            metadata = {**looks.get(day, {}), **snapshot_metadata(snapshot, day), **late.get(day, {})}
            metadata |= {"level": level, "engine": ENGINE}
            if day.isoformat() in own:
                context.add_asset_metadata(metadata, asset_key=asset_key(table), partition_key=day.isoformat())
            else:
                context.log_event(
                    dg.AssetMaterialization(
                        asset_key(table), partition=day.isoformat(), metadata=metadata, tags=level_tags(level)
                    )
                )
    return touched


def _fields(result: Any) -> dict[str, Any]:
    """The drain's figures as metadata: counts as they are, seconds to the millisecond, mappings as JSON; and its engine."""
    values = asdict(result) if is_dataclass(result) and not isinstance(result, type) else vars(result)
    metadata: dict[str, Any] = {"engine": ENGINE}
    for name, value in values.items():
        if isinstance(value, Mapping | list | tuple):
            metadata[name] = dg.MetadataValue.json(_plain(value))
        else:
            metadata[name] = round(value, 3) if isinstance(value, float) else value
    return metadata


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
