"""Reports are made once a period, missed ones are made up for, and nobody gets one twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from iot_platform.assets.maintenance import MAINTENANCE, maintenance
from iot_platform.assets.platform import Platform
from iot_platform.assets.reports import DAILY_REPORT, P95_REPORT, daily_report, p95_report
from iot_platform.automation import runs
from iot_platform.automation.partitions import daily, weekly
from iot_platform.automation.report_schedules import (
    WEEK,
    missing_days,
    missing_weeks,
    report_requests,
    report_schedules,
)
from iot_platform.lake import Lake
from iot_platform.reports.files import report_path, write_report
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at
from iot_platform_tests.automation.test_level_sensor import record
from iot_platform_tests.reports.test_p95 import MONDAY, publish

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # a range in one run

SIX = at(D + DAY, 6)  # 2026-03-11, a Wednesday


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def asked(
    instance: dg.DagsterInstance, key: dg.AssetKey, days: list[date], period: timedelta = DAY
) -> list[tuple[str, str]]:
    found = report_requests(instance, key, days, SIX, period)
    assert not isinstance(found, dg.SkipReason), found
    return [(request.tags[runs.RANGE_START], request.tags[runs.RANGE_END]) for request in found]


def made(
    asset: dg.AssetsDefinition, platform: Platform, instance: dg.DagsterInstance, **tags: str
) -> dg.ExecuteInProcessResult:
    """One run of the asset, of the range that the tags say."""
    definitions = dg.Definitions(assets=[asset], resources={"platform": platform})
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def range_tags(first: date, last: date) -> dict[str, str]:
    return {runs.RANGE_START: first.isoformat(), runs.RANGE_END: last.isoformat()}


def test_yesterday_is_asked_for_until_it_has_its_report(small: SmallLake, settings: Settings) -> None:
    assert missing_days(settings, small.lake, SIX) == [D]
    write_report(settings, "daily", D, {"md": "made"})
    assert missing_days(settings, small.lake, SIX) == []
    assert missing_days(settings, small.lake, SIX + DAY) == [D + DAY]


def test_days_that_were_missed_are_made_up_for_when_they_have_readings(
    small: SmallLake, settings: Settings, instance: dg.DagsterInstance
) -> None:
    for back in (1, 2, 4, 30):
        small.day(D - back * DAY, readings=1)
    days = missing_days(settings, small.lake, SIX)
    assert days == [D - 4 * DAY, D - 2 * DAY, D - DAY, D]
    assert asked(instance, DAILY_REPORT, days) == [("2026-03-06", "2026-03-06"), ("2026-03-08", "2026-03-10")]


def test_weeks_are_asked_for_when_they_are_over_have_readings_and_there_are_marts(
    small: SmallLake, settings: Settings, instance: dg.DagsterInstance
) -> None:
    small.day(MONDAY, readings=1)
    small.day(MONDAY - 7 * DAY, readings=1)
    next_week = at(MONDAY + WEEK, 6, 30)
    assert missing_weeks(settings, small.lake, next_week) == []
    publish(settings, MONDAY)
    assert missing_weeks(settings, small.lake, next_week) == [MONDAY - WEEK, MONDAY]
    assert missing_weeks(settings, small.lake, next_week - timedelta(hours=7)) == [MONDAY - WEEK]  # on Sunday
    assert asked(instance, P95_REPORT, [MONDAY - WEEK, MONDAY], WEEK) == [("2026-03-02", "2026-03-09")]
    write_report(settings, "p95", MONDAY, {"md": "made"})
    assert missing_weeks(settings, small.lake, next_week) == [MONDAY - WEEK]


def test_what_is_being_made_is_not_asked_for_again(instance: dg.DagsterInstance) -> None:
    found = report_requests(instance, DAILY_REPORT, [D], SIX)
    assert not isinstance(found, dg.SkipReason)
    record(instance, found[0], dg.DagsterRunStatus.STARTED)
    again = report_requests(instance, DAILY_REPORT, [D], SIX + timedelta(hours=1))
    assert isinstance(again, dg.SkipReason) and "being made" in (again.skip_message or "")
    nothing = report_requests(instance, DAILY_REPORT, [], SIX)
    assert isinstance(nothing, dg.SkipReason)


def test_a_range_of_days_is_one_run_with_a_report_and_metadata_each(
    small: SmallLake, settings: Settings, instance: dg.DagsterInstance
) -> None:
    small.day(D)
    result = made(daily_report(daily(settings)), Platform(settings), instance, **range_tags(D, D + DAY))
    assert result.success
    filed = result.asset_materializations_for_node("reports__daily_report")
    events = {event.partition: event.metadata for event in filed}
    assert set(events) == {"2026-03-10", "2026-03-11"}
    assert events["2026-03-10"]["readings"].value == 24 and events["2026-03-10"]["sent"].value == "to nobody"
    assert "# Daily summary of 2026-03-10" in report_path(settings, "daily", D).read_text()
    assert '"readings": 24' in report_path(settings, "daily", D, "json").read_text()


def test_the_weekly_report_is_filed_and_says_what_is_missing(settings: Settings, instance: dg.DagsterInstance) -> None:
    asset = p95_report(weekly(settings))
    failed = made(asset, Platform(settings), instance, **{"dagster/partition": "2026-03-09"})
    assert not failed.success
    publish(settings, MONDAY)
    assert made(asset, Platform(settings), instance, **{"dagster/partition": "2026-03-09"}).success
    assert report_path(settings, "p95", MONDAY, "csv").read_text().count("\n") == 2


def test_maintenance_is_an_asset_and_forgets_old_runs(small: SmallLake, settings: Settings) -> None:
    for hour in range(6):
        small.ingest([{"event_time": at(D, hour)}])
    platform = Platform(settings)
    with dg.instance_for_test() as instance:
        assert all(made(maintenance, platform, instance).success for _night in range(2))
        assert len(Lake(settings).snapshot("bronze/readings").active) == 1
        future = _Later(settings)
        assert made(maintenance, future, instance).success
        event = instance.get_latest_materialization_event(MAINTENANCE)
        assert event and event.asset_materialization
        metadata = event.asset_materialization.metadata
        assert metadata["runs_forgotten"].value == 1 and metadata["old_runs_kept"].value == 1
        assert len(instance.get_runs()) == 2


def test_a_table_that_cannot_be_read_keeps_no_other_from_its_maintenance(small: SmallLake, settings: Settings) -> None:
    for hour in range(6):
        small.ingest([{"event_time": at(D, hour)}])
    torn = Path(small.lake.path("bronze/quarantine")) / "_delta_log" / f"{99:020d}.json"
    torn.write_text('{"add":{"pa')
    with dg.instance_for_test() as instance:
        record(instance, dg.RunRequest(), dg.DagsterRunStatus.FAILURE)
        (early,) = instance.get_runs()
        failed = made(maintenance, _Later(settings), instance)
        assert not failed.success and instance.get_run_by_id(early.run_id) is None, "old runs are forgotten all the same"
        (failure,) = [event.step_failure_data for event in failed.all_events if event.is_step_failure]
    assert "not maintained: bronze/quarantine; first: bronze/quarantine: the Delta log" in str(failure.error)
    assert len(Lake(settings).snapshot("bronze/readings").active) == 1


class _Later(Platform):
    """A platform that lives a year later."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=365)


def test_dagster_evaluates_the_schedules(small: SmallLake, settings: Settings) -> None:
    small.day(D - 3 * DAY, readings=1)
    found: dict[str, object] = {}
    with dg.instance_for_test() as instance:
        for schedule in report_schedules():
            context = dg.build_schedule_context(
                instance=instance, scheduled_execution_time=SIX, resources={"platform": Platform(settings)}
            )
            found[schedule.name] = schedule(context)
    assert isinstance(found["daily_report"], list) and len(found["daily_report"]) == 2
    assert isinstance(found["p95_weekly"], dg.SkipReason)
    assert isinstance(found["maintain"], dg.RunRequest) and found["maintain"].asset_selection == [MAINTENANCE]


def test_weeks_are_named_by_their_monday_and_only_whole_ones_exist(settings: Settings) -> None:
    sunday, monday = at(MONDAY + 6 * DAY, 23, 59), at(MONDAY + WEEK, 0, 1)
    assert list(weekly(settings).get_partition_keys(sunday))[-1] == "2026-03-02"
    assert list(weekly(settings).get_partition_keys(monday))[-1] == "2026-03-09"
