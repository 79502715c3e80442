"""The history of check results: an asset that is materialized by looking at Dagster's own log (``checks/history.py``)."""

from typing import Any

import dagster as dg

from iot_platform.assets.metadata import OWNERS, asset_key, snapshot_metadata, table_metadata
from iot_platform.assets.platform import Platform
from iot_platform.checks.history import TABLE, Collected, collect
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import PlatformError
from iot_platform.settings import Settings


def check_results_asset(settings: Settings) -> dg.AssetsDefinition:
    """``ops/check_results``. A sensor keeps it up to date; a run does the same by hand."""

    @dg.asset(
        key=asset_key(TABLE),
        kinds={"delta"},
        owners=OWNERS,
        description=TABLES[TABLE].sentences,
        metadata=table_metadata(TABLE, settings),
        backfill_policy=dg.BackfillPolicy.single_run(),  # so that a range of dates and this can be one run
    )
    def check_results(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        try:
            collected = collect(platform.lake, context.instance, seconds=600)
        except PlatformError as error:
            raise dg.Failure(str(error)) from None
        return dg.MaterializeResult(metadata=_metadata(platform, collected))

    return check_results


def collected_event(platform: Platform, collected: Collected) -> dg.AssetMaterialization:
    """What tells Dagster of a look that added rows outside of a run of this asset."""
    return dg.AssetMaterialization(asset_key(TABLE), metadata=_metadata(platform, collected))


def _metadata(platform: Platform, collected: Collected) -> dict[str, Any]:
    """What a look adds, as metadata of its materialization."""
    return {**snapshot_metadata(platform.lake.snapshot(TABLE)), "rows_added": collected.rows}
