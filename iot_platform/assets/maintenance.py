"""The nightly maintenance as an asset: what was done to each table, and how many old runs were forgotten."""

from dataclasses import asdict
from datetime import timedelta

import dagster as dg

from iot_platform.assets.metadata import OWNERS, markdown_table
from iot_platform.assets.platform import Platform

MAINTENANCE = dg.AssetKey(["ops", "maintenance"])


@dg.asset(
    key=MAINTENANCE,
    kinds={"delta"},
    owners=OWNERS,
    description="One row per table and night. Small files merged, checkpoint written, unread files and old runs removed.",
    pool="maintenance",
)
def maintenance(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    from iot_platform.automation.old_runs import forget_old_runs
    from iot_platform.lake.maintain import maintain, refuse_failed

    now = platform.now()
    settings = platform.settings
    results = maintain(platform.lake, now, timedelta(days=settings.versions_kept_days))
    for skipped in (f"{result.table} {why}" for result in results for why in result.skipped):
        context.log.info(f"left for the next time: {skipped}")
    forgotten = forget_old_runs(context.instance, now, timedelta(days=settings.runs_kept_days))
    refuse_failed(results)
    return dg.MaterializeResult(
        metadata={
            "tables": dg.MetadataValue.md(
                markdown_table([asdict(result) | {"skipped": len(result.skipped)} for result in results], limit=50)
            ),
            "files_merged": sum(result.files_merged for result in results),
            "files_removed": sum(result.files_removed for result in results),
            "skipped": sum(len(result.skipped) for result in results),
            "runs_forgotten": forgotten.removed,
            "old_runs_kept": forgotten.kept,
        }
    )
