"""dbt's results as Dagster's: each date has its materialization and checks, and a test that fails names its dates."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from iot_platform.assets.marts import marts_assets, meaning, names
from iot_platform.assets.marts_events import EVALUATED_DATES, DateCheck, column_lineage, date_checks, evaluation
from iot_platform.automation.check_run import run_checks
from iot_platform.automation.partitions import daily
from iot_platform.automation.run import persistent_instance, run_assets
from iot_platform.automation.run_events import RunResult
from iot_platform.definitions import build_defs
from iot_platform.lake import Lake
from iot_platform.marts.facts import NodeResult, Offending
from iot_platform.marts.publish import build_file
from iot_platform.settings import Settings
from iot_platform_tests.marts.small_lake import MONDAY, SUNDAY, TUESDAY, fill, health, put

SPEC = dg.AssetCheckSpec("unique_key_x", asset=dg.AssetKey(["marts", "x"]), blocking=True)
STAGED = "staging/stg_gold__sensor_health"
BROKEN = NodeResult("fail", "Got 3 results, configured to fail if != 0", 0.1, 3)


def test_a_selection_is_told_to_dbt_by_name() -> None:
    nodes = ["model.iot_platform.devices", "test.iot_platform.unique_devices_device_id.4c33"]
    assert names(nodes) == ["devices", "unique_devices_device_id"]


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        ("unique_key", {"columns": ["a", "b"]}, "No two rows have the same a, b, and none of these is null."),
        ("within", {"column_name": "a", "minimum": 0}, "a is at least 0."),
        ("within", {"column_name": "a", "minimum": 0, "maximum": 9}, "a is at least 0 and at most 9."),
        ("accepted_values", {"column_name": "a", "values": ["x", "y"]}, "a is one of x, y."),
        ("somebody's own", {}, None),
    ],
)
def test_a_dbt_test_says_in_words_what_it_holds(kind: str, arguments: dict[str, object], expected: str | None) -> None:
    assert meaning({"test_metadata": {"name": kind, "kwargs": arguments}}) == expected


def test_a_failing_test_fails_the_dates_of_its_rows_and_passes_the_others() -> None:
    rows = [{"event_date": SUNDAY, "n": 1}, {"event_date": TUESDAY, "n": 2}]
    offending = Offending({SUNDAY: 1, TUESDAY: 2}, rows)
    checks = date_checks(BROKEN, offending, [MONDAY, TUESDAY])
    assert checks == [
        DateCheck(SUNDAY, False, 1, rows[:1]), DateCheck(MONDAY, True), DateCheck(TUESDAY, False, 2, rows[1:])
    ]  # fmt: skip
    shown = evaluation(SPEC, BROKEN, checks[0])
    assert (shown.partition, shown.passed, shown.description) == (SUNDAY.isoformat(), False, "1 rows break it")
    assert "| 2026-01-04 | 1 |" in str(shown.metadata["offending"].value)
    figures = {name: shown.metadata[name].value for name in ("figure", "unit", "fail_at")}
    assert figures == {"figure": 1.0, "unit": "rows", "fail_at": 1.0}


def test_rows_without_a_date_fail_the_newest_and_a_test_that_could_not_be_run_passes_none() -> None:
    undated = Offending({}, [{"n": 1}])
    assert date_checks(BROKEN, undated, [SUNDAY, MONDAY]) == [
        DateCheck(SUNDAY, True), DateCheck(MONDAY, False, 3, undated.rows)
    ]  # fmt: skip
    failed = NodeResult("error", "the table is not there")
    assert [check.passed for check in date_checks(failed, None, [SUNDAY, MONDAY])] == [False, False]
    told = evaluation(SPEC, failed, date_checks(failed, None, [SUNDAY])[0])
    assert told.description == "the table is not there" and "figure" not in told.metadata


def test_a_date_that_was_broken_is_told_to_be_whole_and_of_many_only_the_newest_are_told() -> None:
    passed = NodeResult("pass")
    assert date_checks(passed, None, [TUESDAY], [SUNDAY]) == [DateCheck(SUNDAY, True), DateCheck(TUESDAY, True)]
    assert date_checks(passed, None, []) == []
    many = [date.fromordinal(MONDAY.toordinal() + n) for n in range(100)]
    assert [check.day for check in date_checks(passed, None, [], made=many)] == many[-EVALUATED_DATES:]


def test_what_was_asked_for_and_what_was_broken_is_told_however_much_it_is() -> None:
    passed = NodeResult("pass")
    many = [date.fromordinal(MONDAY.toordinal() + n) for n in range(100)]
    assert [check.day for check in date_checks(passed, None, many)] == many
    told = date_checks(passed, None, [], broken_before=many[:70], made=many)
    assert [check.day for check in told] == many  # 70 that were broken, and the newest 62
    failing = date_checks(BROKEN, Offending(dict.fromkeys(many[:80], 1), []), [], made=many)
    assert [check.day for check in failing if not check.passed] == many[:80]


def test_a_test_of_a_table_without_dates_is_one_result_and_a_warning_only_warns() -> None:
    (check,) = date_checks(NodeResult("warn", "Got 1 result", 0.1, 1), Offending({}, [{"n": 1}]), None)
    assert check == DateCheck(None, False, 1, [{"n": 1}])
    assert evaluation(SPEC, NodeResult("warn", "", 0.1, 1), check).severity == dg.AssetCheckSeverity.WARN


def test_models_by_date_have_the_platforms_partitions_and_others_none(settings: Settings, dbt_manifest: Path) -> None:
    graph = build_defs(settings, manifest=dbt_manifest).resolve_asset_graph()
    marts = [key for key in graph.get_all_asset_keys() if key.path[0] == "marts"]
    without = {key.path[1] for key in marts if graph.get(key).partitions_def is None}
    assert without == {"devices", "duration_p95_weekly", "check_trend"}
    for key in graph.get_check_keys_for_assets(set(marts)):
        assert bool(graph.get(key).partitions_def) == bool(graph.get(key.asset_key).partitions_def), key


def test_sql_that_the_parser_does_not_know_has_no_lineage_and_stops_nothing(settings: Settings, dbt_manifest: Path) -> None:
    definition = marts_assets(settings, dbt_manifest, daily(settings))
    key = dg.AssetKey(["marts", "devices"])
    assert column_lineage(definition, key, "select no_such_column from stg_registry__devices") == {}
    known = column_lineage(definition, key, "select d.site from stg_registry__devices as d")["dagster/column_lineage"]
    assert known.deps_by_column == {
        "site": [dg.TableColumnDep(dg.AssetKey(["staging", "stg_registry__devices"]), "site")]
    }


SITE_READS = ("gold/daily_summary", "gold/sensor_health", "gold/sensor_windows")  # marts/site_daily, through other models


def broken(result: RunResult) -> set[tuple[str, date | None]]:
    return {(check.check.split("_stg_")[0], check.day) for check in result.failed_checks}


def made(result: RunResult, asset: str) -> list[tuple[date | None, int | None]]:
    return [(one.day, one.rows) for one in result.made if one.asset == asset]


@pytest.mark.untraced
def test_each_date_has_its_materialization_and_a_broken_one_is_named_and_publishes_nothing(
    settings: Settings, dbt_manifest: Path
) -> None:
    lake = Lake(settings)
    fill(lake)
    definitions = build_defs(settings, manifest=dbt_manifest)

    def run(first: date, last: date, *select: str) -> RunResult:
        return run_assets(settings, first, last, select=select, definitions=definitions)

    result = run(SUNDAY, TUESDAY, "staging", "marts")
    assert result.is_success and not result.failed_checks
    for asset in (STAGED, "marts/device_health_daily"):
        assert made(result, asset) == [(SUNDAY, 2), (MONDAY, 2), (TUESDAY, 2)]
    assert made(result, "marts/devices") == [(None, 2)]
    unique = [check.day for check in result.checks if check.check == "unique_key_site_daily_site__event_date"]
    assert unique == [SUNDAY, MONDAY, TUESDAY]
    with persistent_instance(settings) as instance:
        for asset in {one.asset for one in result.made}:
            newest = instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
            assert newest and newest.asset_materialization
            assert "dagster/column_lineage" in newest.asset_materialization.metadata, asset
        event = instance.get_latest_materialization_event(dg.AssetKey(["marts", "site_daily"]))
    assert event and event.asset_materialization
    metadata = event.asset_materialization.metadata
    assert "| hall | 2026-01-06 |" in str(metadata["preview"].value) and metadata["is_published"].value is True
    assert metadata["engine"].value == "duckdb" and metadata["bytes"].value == 2**18
    assert metadata["partition_bytes"].value == round(2**18 / 3)  # a row a date
    versions = {table: lake.snapshot(table).version for table in SITE_READS}
    assert metadata["input_versions"].value == versions
    lineage = metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert set(lineage.deps_by_column["readings"]) == {
        dg.TableColumnDep(dg.AssetKey(["staging", "stg_gold__daily_summary"]), "readings")
    }

    # Dates that somebody launches are made again, though nothing moved, and no others.
    with duckdb.connect(str(build_file(settings))) as connection:
        connection.execute("update device_health_daily set zone = 'before'")
    result = run(MONDAY, TUESDAY, "marts/device_health_daily")
    assert {one.asset for one in result.made} == {"marts/device_health_daily"} == {check.asset for check in result.checks}
    with duckdb.connect(str(settings.marts), read_only=True) as connection:
        zones = connection.execute("select distinct event_date, zone from device_health_daily order by all").fetchall()
    assert zones == [(SUNDAY, "before"), (MONDAY, None), (TUESDAY, None)]

    published = settings.marts.stat().st_ino
    put(lake, "gold/sensor_health", SUNDAY, [health("room", SUNDAY, 5), health("room", SUNDAY, 4)], 12)
    result = run(SUNDAY, MONDAY, STAGED)
    assert not result.is_success and not result.made and settings.marts.stat().st_ino == published
    assert broken(result) == {("unique_key", SUNDAY)} and "unique_key" in result.errors[0].error
    assert not result.untold_errors  # the test's own results say it
    assert {(check.day, check.passed) for check in result.checks} == {(SUNDAY, False), (MONDAY, True)}

    # Its rows are put right and another date is asked for: the date that was broken is told to be whole again.
    put(lake, "gold/sensor_health", SUNDAY, [health("room", SUNDAY, 5)], 13)
    assert run(SUNDAY, SUNDAY, STAGED).is_success
    result = run(TUESDAY, TUESDAY, STAGED)
    assert result.is_success and {check.day for check in result.checks} == {TUESDAY}

    # Checks alone look at what is built: they make nothing and publish nothing.
    before = settings.marts.stat()
    checked = run_checks(settings, TUESDAY, TUESDAY, [STAGED], definitions=definitions).result
    assert checked.is_success and not checked.made and {check.day for check in checked.checks} == {TUESDAY}
    after = settings.marts.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
