"""The registries: the devices and metrics that are known, from declarations and from first readings."""

from typing import Any

import dagster as dg

from iot_platform.assets.metadata import OWNERS, asset_key, description, snapshot_metadata, table_metadata
from iot_platform.assets.platform import Platform
from iot_platform.settings import Settings

REGISTRY = ("registry/devices", "registry/metrics")


def registry_assets(settings: Settings) -> dg.AssetsDefinition:
    """``registry/devices`` and ``registry/metrics``, synchronized by one step."""

    @dg.multi_asset(
        name="sync_registry",
        specs=[
            dg.AssetSpec(
                asset_key(table),
                deps=[asset_key("bronze/readings")],
                description=description(table),
                group_name="bronze",
                kinds={"delta"},
                owners=OWNERS,
                metadata=table_metadata(table, settings),
            )
            for table in REGISTRY
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),  # so that a range of dates and the registries can be one run
        pool="registry",
    )
    def sync_registry(platform: dg.ResourceParam[Platform]) -> Any:
        """Brings the registries up to the declared CSV files and to Bronze; commits only what changed."""
        from iot_platform.engines.registry import sync_registry as synchronize

        result = synchronize(platform.lake, platform.engine, now=platform.now())
        changed = {"registry/devices": result.devices_changed, "registry/metrics": result.metrics_changed}
        for table in REGISTRY:
            metadata = snapshot_metadata(platform.lake.snapshot(table))
            yield dg.MaterializeResult(asset_key(table), metadata={**metadata, "rows_changed": changed[table]})

    return sync_registry
