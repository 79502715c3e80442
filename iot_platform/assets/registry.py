"""The registries: the devices and metrics that are known, from declarations and from first readings."""

from hashlib import sha256
from time import perf_counter
from typing import Any

import dagster as dg

from iot_platform.assets.metadata import (
    BETWEEN,
    OWNERS,
    asset_key,
    lineage_metadata,
    snapshot_metadata,
    table_metadata,
)
from iot_platform.assets.platform import Platform
from iot_platform.assets.preview import previews
from iot_platform.assets.versions import BY_LEVEL
from iot_platform.contracts.tables import TABLES
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS, code_version, held

REGISTRY = ("registry/devices", "registry/metrics")


def registry_assets(settings: Settings) -> dg.AssetsDefinition:
    """``registry/devices`` and ``registry/metrics``, synchronized by one step."""

    @dg.multi_asset(
        name="sync_registry",
        specs=[
            dg.AssetSpec(
                asset_key(table),
                deps=[asset_key("bronze/readings")],
                description=TABLES[table].sentences,
                kinds={settings.engine, "delta"},
                owners=OWNERS,
                metadata=table_metadata(table, settings),
                code_version=registry_code_version(table),
            )
            for table in REGISTRY
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),  # so that a range of dates and the registries can be one run
        pool="registry",
    )
    def sync_registry(platform: dg.ResourceParam[Platform]) -> Any:
        """Brings the registries up to the declared CSV files and to Bronze; commits only what changed."""
        from iot_platform.engines.registry import sync_registry as synchronize

        began = perf_counter()
        result = synchronize(platform.lake, platform.engine, now=platform.now())
        changed = {"registry/devices": result.devices_changed, "registry/metrics": result.metrics_changed}
        for table in REGISTRY:
            snapshot = platform.lake.snapshot(table)
            metadata = {
                **previews(platform.lake, snapshot, [None]).get(None, {}),
                **snapshot_metadata(snapshot),
                "rows_changed": changed[table],
                "engine": platform.engine.name,
                "seconds": round(perf_counter() - began, 3),
                **(lineage_metadata(table) if table in TRANSFORMS else {}),
            }
            yield dg.MaterializeResult(asset_key(table), metadata=metadata, data_version=BY_LEVEL)

    return sync_registry


def registry_code_version(table: str) -> str:
    """Changes with what the table's contract holds and with the texts that make it; metrics come of declarations alone."""
    texts = [TRANSFORMS[name] for name in (*BETWEEN, table)] if table in TRANSFORMS else []
    parts = [code_version(transform) for transform in texts] or [repr(held(TABLES[table]))]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]
