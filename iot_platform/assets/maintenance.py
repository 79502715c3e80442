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
    description="One row per table and night. What the settings do not keep is deleted, small files are merged and sorted, a"
    " checkpoint is written, unread files and old runs are removed.",
    pool="maintenance",
)
def maintenance(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
    from iot_platform.automation.old_runs import forget_old_runs
    from iot_platform.lake.maintain import maintain, refuse_failed
    from iot_platform.marts.untaken import untaken

    now = platform.now()
    settings = platform.settings
    results = maintain(
        platform.lake, now, timedelta(days=settings.versions_kept_days), untaken=lambda: untaken(platform.lake)
    )
    for result in results:
        for why in result.skipped:
            context.log.info(f"left for the next time: {result.table} {why}")
        if result.kept:
            context.log.warning(f"{result.table} stays {result.kept}")
    forgotten = forget_old_runs(context.instance, now, timedelta(days=settings.runs_kept_days))
    refuse_failed(results)
    closed = next((result.closed_before for result in results if result.closed_before), None)
    rows = [
        asdict(result) | {"skipped": len(result.skipped), "closed_before": str(result.closed_before or "")}
        for result in results
    ]
    return dg.MaterializeResult(
        metadata={
            "tables": dg.MetadataValue.md(markdown_table(rows, limit=50)),
            "files_merged": sum(result.files_merged for result in results),
            "files_removed": sum(result.files_removed for result in results),
            "dates_expired": sum(result.dates_expired for result in results),
            "rows_expired": sum(result.rows_expired for result in results),
            "bytes_saved": sum(result.bytes_merged - result.bytes_written for result in results),
            "closed_before": str(closed or ""),
            "kept": "; ".join(f"{result.table} stays {result.kept}" for result in results if result.kept),
            "skipped": sum(len(result.skipped) for result in results),
            "runs_forgotten": forgotten.removed,
            "old_runs_kept": forgotten.kept,
        }
    )
