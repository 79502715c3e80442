"""The reports: what is written for people, one file set a period, under ``$IOT_HOME/reports``."""

from datetime import date
from typing import Any

import dagster as dg

from iot_platform.assets.metadata import OWNERS, asset_key
from iot_platform.assets.platform import Platform
from iot_platform.automation.partitions import dates
from iot_platform.errors import InputError, PlatformError

DAILY_REPORT = dg.AssetKey(["reports", "daily_report"])
P95_REPORT = dg.AssetKey(["reports", "p95_weekly"])
DAILY_READS = (
    "bronze/readings", "bronze/quarantine", "silver/readings", "gold/sensor_health", "gold/anomaly_events",
    "gold/duration_p95",
)  # fmt: skip
RETRY = dg.RetryPolicy(max_retries=2, delay=20, backoff=dg.Backoff.EXPONENTIAL)


def daily_report(partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """``reports/daily_report``."""

    @dg.asset(
        key=DAILY_REPORT,
        deps=[asset_key(table) for table in DAILY_READS],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds={"markdown", "json"},
        owners=OWNERS,
        description="One report per UTC date: volumes, health, anomalies, p95, ledger and incidents, as Markdown and JSON."
        " Sent to the configured channels, each date once.",
        retry_policy=RETRY,
        pool="reports",
    )
    def report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        for day in dates(sorted(context.partition_keys)):
            context.add_asset_metadata(file_daily_report(platform, day), partition_key=day.isoformat())
        return dg.MaterializeResult()

    return report


def file_daily_report(platform: Platform, day: date) -> dict[str, Any]:
    """Write the date's report and send it where it was not sent yet; the metadata of its materialization."""
    import json

    from iot_platform.alerts import send_summary
    from iot_platform.reports.daily import daily_summary
    from iot_platform.reports.files import DAILY, write_report

    try:
        summary = daily_summary(platform.lake, day)
        text = summary.markdown()
        data = json.dumps(summary.as_json(), indent=1, ensure_ascii=False) + "\n"
        paths = write_report(platform.settings, DAILY, day, {"json": data, "md": text})
        deliveries = send_summary(platform.settings, summary, platform.now())
    except PlatformError as error:
        raise failure(f"{day}", error) from None
    return {
        "report": dg.MetadataValue.md(text),
        "path": dg.MetadataValue.path(str(paths[-1])),
        "readings": summary.readings,
        "sent": ", ".join(one.channel for one in deliveries if one.is_delivered) or "to nobody",
        **{f"not sent by {one.channel}": one.error for one in deliveries if not one.is_delivered},
    }


def failure(period: str, error: PlatformError) -> dg.Failure:
    """The step's failure. What is asked for wrongly is not tried again."""
    return dg.Failure(f"{period}: {error}", allow_retries=not isinstance(error, InputError))


def p95_report(weeks: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """``reports/p95_weekly``."""

    @dg.asset(
        key=P95_REPORT,
        deps=[dg.AssetKey(["marts", "duration_p95_weekly"]), dg.AssetDep(asset_key("gold/duration_p95"))],
        partitions_def=weeks,
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds={"markdown", "csv"},
        owners=OWNERS,
        description="One report per week, Monday to Sunday (UTC): 95th percentiles of event durations by device type, as"
        " Markdown and CSV.",
        retry_policy=RETRY,
        pool="reports",
    )
    def report(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        for monday in dates(sorted(context.partition_keys)):
            context.add_asset_metadata(file_p95_report(platform, monday), partition_key=monday.isoformat())
        return dg.MaterializeResult()

    return report


def file_p95_report(platform: Platform, monday: date) -> dict[str, Any]:
    """Write the week's report; the metadata of its materialization."""
    from iot_platform.reports.files import WEEKLY_P95, write_report
    from iot_platform.reports.p95 import weekly_p95

    try:
        found = weekly_p95(platform.lake, monday)
        texts = {"csv": found.as_csv(), "md": found.markdown()}
        paths = write_report(platform.settings, WEEKLY_P95, monday, texts)
    except PlatformError as error:
        raise failure(f"week of {monday}", error) from None
    return {
        "report": dg.MetadataValue.md(texts["md"]),
        "path": dg.MetadataValue.path(str(paths[-1])),
        "dagster/partition_row_count": len(found.weekly),
    }
