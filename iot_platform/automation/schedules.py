"""What happens by the clock: after midnight the day that ended is closed."""

from datetime import timedelta

import dagster as dg

from iot_platform.assets.metadata import asset_key

CLOSED = ("gold/sensor_health", "gold/daily_summary")


def close_day() -> dg.ScheduleDefinition:
    """Makes yesterday's health and summary once more: a fleet that fell silent moves no level by itself."""

    @dg.schedule(
        name="close_day",
        description="After midnight UTC: yesterday's sensor health and daily summary, silent fleets included.",
        cron_schedule="10 0 * * *",
        execution_timezone="UTC",
        target=dg.AssetSelection.assets(*(asset_key(table) for table in CLOSED)),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
        return dg.RunRequest(run_key=f"close/{day}", partition_key=day, tags={"iot/close_day": day})

    return schedule
