"""The schedules of the reports and of the nightly maintenance.

A report is asked for while it is missing: each hour looks again, so that a failure, a full disk or a daemon that was off
heals the same day, and a period that has its report is never asked for again. Dagster makes up for the last missed tick
only; what the others would have asked for, that one does.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

import dagster as dg

from iot_platform.assets.maintenance import MAINTENANCE
from iot_platform.assets.platform import Platform
from iot_platform.assets.reports import DAILY_REPORT, P95_REPORT
from iot_platform.automation import runs
from iot_platform.automation.freshness import MAINTENANCE_CRON
from iot_platform.automation.partitions import contiguous
from iot_platform.automation.priorities import REPORTS, priority_tag
from iot_platform.lake.lake import Lake
from iot_platform.settings import Settings

DAILY_CRON = "0 6-23 * * *"
WEEKLY_CRON = "30 6-23 * * *"
DAYS_BACK = 7
WEEKS_BACK = 4
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
Missing = Callable[[Settings, Lake, datetime], list[date]]


def missing_days(settings: Settings, lake: Lake, moment: datetime) -> list[date]:
    """Yesterday, and the closed dates of a week that have readings, as long as they have no report; oldest first."""
    from iot_platform.reports.files import DAILY, is_written

    yesterday = moment.date() - DAY
    filled = lake.snapshot("bronze/readings").rows_by_date
    days = [yesterday - DAY * back for back in reversed(range(DAYS_BACK))]
    return [day for day in days if (day == yesterday or day in filled) and not is_written(settings, DAILY, day)]


def missing_weeks(settings: Settings, lake: Lake, moment: datetime) -> list[date]:
    """The Mondays of the last closed weeks that have readings and no report; oldest first. None before there are marts."""
    from iot_platform.reports.files import WEEKLY_P95, is_written

    if not settings.marts.exists():
        return []
    this_monday = moment.date() - DAY * moment.weekday()
    filled = {day - DAY * day.weekday() for day in lake.snapshot("bronze/readings").rows_by_date}
    mondays = [this_monday - WEEK * back for back in range(WEEKS_BACK, 0, -1)]
    return [monday for monday in mondays if monday in filled and not is_written(settings, WEEKLY_P95, monday)]


def report_requests(
    instance: dg.DagsterInstance, key: dg.AssetKey, first_days: Sequence[date], moment: datetime, period: timedelta = DAY
) -> list[dg.RunRequest] | dg.SkipReason:
    """A run for each row of periods without a gap, unless one is under way."""
    name = "/".join(key.path)
    if not first_days:
        return dg.SkipReason(f"{name}: every period has its report")
    if runs.makes(runs.unfinished(instance), key):
        return dg.SkipReason(f"{name} is being made")
    # Counted in periods: weeks follow each other as dates do.
    numbers = {date.fromordinal(day.toordinal() // period.days): day for day in first_days}
    return [
        dg.RunRequest(
            run_key=f"{name}/{numbers[first]}/{moment.isoformat()}",
            asset_selection=[key],
            tags={
                runs.RANGE_START: numbers[first].isoformat(),
                runs.RANGE_END: numbers[last].isoformat(),
                **priority_tag(REPORTS),
                **runs.tags(name),
            },
        )
        for first, last in contiguous(numbers)
    ]


def report_schedule(
    name: str, cron: str, key: dg.AssetKey, missing: Missing, *, period: timedelta, description: str
) -> dg.ScheduleDefinition:
    """Asks for the periods of a report that ``missing`` finds."""

    @dg.schedule(
        name=name,
        description=description,
        cron_schedule=cron,
        execution_timezone="UTC",
        target=dg.AssetSelection.assets(key),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        moment = context.scheduled_execution_time
        first_days = missing(platform.settings, platform.lake, moment)
        return report_requests(context.instance, key, first_days, moment, period)

    return schedule


def report_schedules() -> list[dg.ScheduleDefinition]:
    """The daily report, the weekly p95, the maintenance."""
    daily = report_schedule(
        "daily_report", DAILY_CRON, DAILY_REPORT, missing_days, period=DAY,
        description="From 06:00 UTC: the report of yesterday, and of the days before it that were missed.",
    )  # fmt: skip
    weekly = report_schedule(
        "p95_weekly", WEEKLY_CRON, P95_REPORT, missing_weeks, period=WEEK,
        description="From 06:30 UTC: the report of event durations of the week that ended, and of those that were missed.",
    )  # fmt: skip

    @dg.schedule(
        name="maintain",
        description="Merges small files, writes checkpoints, removes what nobody reads any more, forgets old runs.",
        cron_schedule=MAINTENANCE_CRON,
        execution_timezone="UTC",
        target=dg.AssetSelection.assets(MAINTENANCE),
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def maintain(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        # Named, although it is the schedule's target: a run without a selection is taken to make every asset.
        return dg.RunRequest(
            run_key=context.scheduled_execution_time.isoformat(),
            asset_selection=[MAINTENANCE],
            tags={**priority_tag(REPORTS), **runs.tags("maintain")},
        )

    return [daily, weekly, maintain]
