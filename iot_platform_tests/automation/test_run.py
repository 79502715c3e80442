"""A run of a range in this process: every asset and check by date, one run in the record, a failed date undoes no other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from iot_platform.assets.metadata import asset_key
from iot_platform.automation import runs
from iot_platform.automation.check_run import run_checks
from iot_platform.automation.run import persistent_instance, run_assets
from iot_platform.automation.run_events import Checked, Made, RunResult, StepEnd
from iot_platform.automation.selection import selected
from iot_platform.definitions import build_defs
from iot_platform.errors import InputError
from iot_platform.lake import Lake
from iot_platform.lake.levels import daily_transforms
from iot_platform.lake.query import select
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake, at

DAILY = [transform.table for transform in daily_transforms()]


@dataclass
class Whole:
    """A lake of two dates after one run of everything that is made from Bronze."""

    settings: Settings
    definitions: dg.Definitions
    result: RunResult
    progress: list[Made | Checked | StepEnd]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, dbt_manifest: Path) -> Whole:
    settings = Settings(home=tmp_path_factory.mktemp("whole"), _env_file=None)  # pyright: ignore[reportCallIssue]
    small = SmallLake(Lake(settings))
    small.day(D, readings=8)
    small.day(D + DAY, readings=8)
    definitions = build_defs(settings, manifest=dbt_manifest)
    progress: list[Made | Checked | StepEnd] = []
    result = run_assets(settings, D, D + DAY, definitions=definitions, on_progress=progress.append)
    return Whole(settings, definitions, result, progress)


def test_every_asset_is_made_for_every_date(whole: Whole) -> None:
    assert whole.result.is_success, whole.result.errors
    made = {(made.asset, made.day) for made in whole.result.made}
    assert {(table, day) for table in DAILY for day in (D, D + DAY)} <= made
    assert {("registry/devices", None), ("marts/devices", None), ("marts/device_health_daily", D)} <= made
    rows = {(made.asset, made.day): made.rows for made in whole.result.made}
    assert rows["silver/readings", D] == 8 and rows["marts/devices", None] == 1


def test_every_check_has_a_result_for_every_date(whole: Whole) -> None:
    graph = whole.definitions.resolve_asset_graph()
    expected: set[tuple[str, str, date | None]] = set()
    for key in graph.asset_check_keys:
        if key.asset_key.path[0] != "bronze":
            days = (D, D + DAY) if graph.get(key).partitions_def else (None,)
            expected |= {("/".join(key.asset_key.path), key.name, day) for day in days}
    found = [(check.asset, check.check, check.day) for check in whole.result.checks]
    assert set(found) == expected and len(found) == len(expected)
    assert {check.check for check in whole.result.failed_checks} == {"devices_are_declared"}  # and that one only warns


def test_every_result_is_in_the_history_dbt_s_tests_too(whole: Whole) -> None:
    columns = "asset, check_name, event_date, passed, severity, figure"
    sql = f"select {columns} from ops_check_results where run_id = '{whole.result.run_id}'"
    kept = Counter(select(Lake(whole.settings), sql)[1])
    told = Counter((one.asset, one.check, one.day, one.passed, one.severity) for one in whole.result.checks)
    assert Counter({row[:5]: count for row, count in kept.items()}) == told
    assert any(row[0].startswith("marts/") and row[5] == 0 for row in kept)  # the rows that a test found


def test_the_history_of_checks_is_materialized_by_a_run_too(whole: Whole) -> None:
    with persistent_instance(whole.settings) as instance:
        (event,) = instance.fetch_materializations(asset_key("ops/check_results"), limit=10).records[:1]
    metadata = told(event)
    assert metadata["rows_added"] > 0 and metadata["dagster/row_count"] >= len(whole.result.checks)
    assert "ops/check_results" not in {made.asset for made in whole.result.made}  # it is no part of what was asked for


def test_progress_is_told_as_it_happens(whole: Whole) -> None:
    told = whole.progress
    assert [item for item in told if isinstance(item, Made)] == whole.result.made
    first, last = (told.index(next(i for i in told if isinstance(i, Made) and i.asset == name)) for name in DAILY[:9:8])
    assert first < last


def test_the_run_stands_in_dagsters_record_and_its_log_in_a_file(whole: Whole) -> None:
    with persistent_instance(whole.settings) as instance:
        record = instance.get_run_by_id(whole.result.run_id)
        assert record and record.status == dg.DagsterRunStatus.SUCCESS
        assert record.tags[runs.RANGE_START] == "2026-03-10" and record.tags[runs.RANGE_END] == "2026-03-11"
        assert instance.get_runs_count() == 1
        events = instance.fetch_materializations(asset_key("silver/readings"), limit=10).records
        assert {event.partition_key for event in events} == {"2026-03-10", "2026-03-11"}
        metadata = told(events[0])
        assert metadata["dagster/partition_row_count"] == 8 and metadata["dagster/row_count"] == 16
        assert metadata["engine"] == "duckdb" and metadata["level"] > 0
        assert metadata["input_versions"]["bronze/readings"] > 0 and metadata["partition_bytes"] > 0
    assert whole.result.log and "RUN_SUCCESS" not in whole.result.log.read_text().splitlines()[0]
    assert "silver__readings" in whole.result.log.read_text()


def told(event: Any) -> dict[str, Any]:
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_the_record_names_what_the_run_makes_so_that_sensors_leave_it_alone(whole: Whole) -> None:
    with persistent_instance(whole.settings) as instance:
        run = instance.get_run_by_id(whole.result.run_id)
    assert run
    made = {key.to_user_string() for key in run.asset_selection or ()}
    assert {*DAILY, "registry/devices", "marts/devices"} <= made
    assert not made & {"bronze/readings", "ops/maintenance"}


def test_a_second_run_makes_again_only_when_told_to(whole: Whole) -> None:
    lake = Lake(whole.settings)
    version = lake.snapshot("silver/readings").version
    again = run_assets(
        whole.settings, D, D, ["silver/readings"], force=False, definitions=whole.definitions
    )
    assert again.is_success and lake.snapshot("silver/readings").version == version
    forced = run_assets(whole.settings, D, D, ["silver/readings"], definitions=whole.definitions)
    assert forced.is_success and lake.snapshot("silver/readings").version > version


def test_selections_are_layers_tables_or_dagsters_own_syntax(whole: Whole) -> None:
    def names(*words: str) -> set[str]:
        return {"/".join(key.path) for key in selected(whole.definitions, words)}

    assert names("silver") == {"silver/readings", "silver/rejected_readings"}
    assert names("gold/duration_p95", "marts/devices") == {"gold/duration_p95", "marts/devices"}
    assert names('key:"gold/sensor_health"+') >= {"gold/sensor_health", "marts/device_health_daily"}
    assert names("group:gold") == {table for table in DAILY if table.startswith("gold/")}


@pytest.mark.parametrize(
    ("first", "last", "select", "says"),
    [
        (D, D - DAY, ["silver"], "is after the last"),
        (date(1999, 1, 1), D, ["silver"], "beyond the partitions, 2010-01-01"),
        (None, None, ["silver"], "no dates were given"),
        (D, D, ["platinum"], "nothing is called 'platinum'"),
        (D, D, ["gold/"], "nothing is called 'gold/'"),
    ],
)
def test_wrong_use_is_one_line(
    whole: Whole, first: date | None, last: date | None, select: list[str], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        run_assets(whole.settings, first, last, select, definitions=whole.definitions)


def test_a_date_that_breaks_its_contract_is_left_out_and_named_and_the_others_are_made(
    settings: Settings, dbt_manifest: Path
) -> None:
    small = SmallLake(Lake(settings))
    small.day(D, readings=4)
    small.ingest([{"event_time": at(D + DAY, hour), "contract_version": 0} for hour in range(4)])
    small.day(D + 2 * DAY, readings=4)
    definitions = build_defs(settings, manifest=dbt_manifest)
    result = run_assets(settings, D, D + 2 * DAY, ["silver", "gold/sensor_windows"], definitions=definitions)
    assert not result.is_success
    (error,) = [step for step in result.errors if step.step == "silver__readings"]
    assert "not made: 2026-03-11; made: 2 date(s)" in error.error and "contract_version" in error.error
    assert {made.day for made in result.made if made.asset == "silver/readings"} == {D, D + 2 * DAY}
    contract = {c.day: (c.passed, c.figure) for c in result.checks if (c.asset, c.check) == ("silver/readings", "contract")}
    assert contract == {D: (True, 0), D + DAY: (False, 4), D + 2 * DAY: (True, 0)}
    assert "(4 times)" in error.error
    assert small.lake.snapshot("silver/readings").rows_by_date == {D: 4, D + 2 * DAY: 4}
    assert not small.lake.snapshot("gold/sensor_windows").rows  # after a failed step nothing is made from it in this run
    with persistent_instance(settings) as instance:
        from iot_platform.automation.level_sensor import failing_outputs

        assert failing_outputs(instance, [D, D + DAY]) == {("silver/readings", D + DAY)}


def test_a_failed_blocking_check_stops_what_reads_the_table(settings: Settings, dbt_manifest: Path) -> None:
    small = SmallLake(Lake(settings))
    small.day(D, readings=4)
    definitions = build_defs(settings, manifest=dbt_manifest)
    assert run_assets(settings, D, D, ["silver"], definitions=definitions).is_success
    rows = small.rows("silver/readings")
    small.put("silver/readings", D, rows[1:])  # a reading vanishes
    result = run_assets(
        settings, D, D, ["silver/rejected_readings", "gold/sensor_windows"], force=False, definitions=definitions
    )
    assert result.is_success  # the check belongs to silver/readings, which this run does not make
    small.put("silver/readings", D, rows[1:], level=small.lake.snapshot("silver/readings").recorded_level(D) + 10**9)
    result = run_assets(settings, D, D, ["silver/readings", "gold/sensor_windows"], force=False, definitions=definitions)
    assert not result.is_success
    (failed,) = [check for check in result.failed_checks if check.check == "conservation"]
    assert failed.day == D and failed.severity == "ERROR" and "1 row(s)" in failed.description
    assert "gold/sensor_windows" not in {made.asset for made in result.made}
    assert result.seconds > 0


def test_the_tests_of_the_marts_are_run_alone_too(whole: Whole) -> None:
    before = whole.settings.marts.stat()
    run = run_checks(whole.settings, D, D + DAY, ["marts/device_health_daily", "volume"], definitions=whole.definitions)
    assert run.result.is_success and not run.is_without_marts and not run.result.made
    found = {(one.asset, one.day) for one in run.result.checks}
    assert {("marts/device_health_daily", D), ("marts/device_health_daily", D + DAY), ("silver/readings", D)} <= found
    assert all(one.passed for one in run.result.checks)
    assert whole.settings.marts.stat().st_size == before.st_size
