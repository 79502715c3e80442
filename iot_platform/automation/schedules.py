"""What happens by the clock: after midnight the day that ended is closed.

Until then a contract's time is the newest time that it sent, so that replayed history and a slow start fail nobody. A
fleet that falls silent moves no level by itself; closing its day does, and the level sensor and this schedule alike ask
for what is stale then.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import dagster as dg

from iot_platform.assets.metadata import asset_key
from iot_platform.assets.platform import Platform
from iot_platform.automation import runs
from iot_platform.automation.level_sensor import Stale, decide, look
from iot_platform.automation.priorities import without_flood
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import CLOCKED, CLOSED, DAY_US, day_start_us

TABLES = (CLOCKED, "gold/daily_summary")


def close(lake: Lake, day: date) -> bool:
    """Record that the date and all before it are over, for every contract; False when that stood there already.

    Raises ``LakeError`` when it cannot be written; the next look does it.
    """
    snapshot = lake.writable(CLOCKED)
    end = day_start_us(day) + DAY_US
    if (snapshot.transaction(CLOSED) or 0) >= end:
        return False
    lake.commit_transaction(snapshot, CLOSED, end)
    return True


def close_yesterday(
    platform: Platform, instance: dg.DagsterInstance, partitions: dg.PartitionsDefinition, moment: datetime
) -> Sequence[dg.RunRequest] | dg.SkipReason:
    """Close the UTC date before ``moment``; the runs that make what is stale of health and summary by that.

    Dates whose Silver is stale too are left to the level sensor, which makes them in order.
    """
    day = moment.date() - timedelta(days=1)
    if not close(platform.lake, day):
        return dg.SkipReason(f"{day} is closed already")
    # Runs before levels, as in the level sensor: what ends in between is still taken for running.
    in_flight = runs.unfinished(instance)
    stale = look(platform.lake)
    unmade = {day for table, days in stale.dates.items() if table not in TABLES for day in days}
    waiting = {table: [day for day in stale.dates[table] if day not in unmade] for table in TABLES}
    busy = runs.being_made(in_flight, partitions, waiting)
    requests, reasons = decide(Stale(waiting, stale.moved, stale.levels), instance, moment, busy, {})
    requests, _ = without_flood(requests, in_flight)  # the level sensor asks for the rest
    return requests or dg.SkipReason("; ".join([f"{day} is closed; no health was waiting for that", *reasons[:5]]))


def close_day(partitions: dg.PartitionsDefinition) -> dg.ScheduleDefinition:
    """Closes yesterday, so that fleets that fell silent, or never spoke, are seen to be."""

    @dg.schedule(
        name="close_day",
        description="After midnight UTC: yesterday is over for every contract, silent ones included; their health is made.",
        # 00:10 closes the day. The hours after it find it closed, or close it where that failed (a full disk, say).
        cron_schedule="10 * * * *",
        execution_timezone="UTC",
        target=dg.AssetSelection.assets(*(asset_key(table) for table in TABLES)),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> Sequence[dg.RunRequest] | dg.SkipReason:
        return close_yesterday(platform, context.instance, partitions, context.scheduled_execution_time)

    return schedule
