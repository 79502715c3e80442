"""dbt's results as Dagster's: which nodes a selection builds, how a test's end becomes a check, what a failed build says."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import duckdb

from iot_platform.assets.marts import NodeResult, check_result, node_results, row_counts, selection
from iot_platform.automation.run import run_assets
from iot_platform.definitions import build_defs
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import D, SmallLake
from iot_platform_tests.checks.rows import health

CHECK = dg.AssetCheckKey(dg.AssetKey(["marts", "devices"]), "unique_devices_device_id")


def test_a_selection_is_told_to_dbt_by_name() -> None:
    models, tests = ["model.iot_platform.devices"], ["test.iot_platform.unique_devices_device_id.4c33"]
    assert selection(models, tests) == ["devices", "unique_devices_device_id"]


def test_a_dbt_test_becomes_the_result_of_a_check() -> None:
    passed = check_result(CHECK, NodeResult("pass", "", 0.1, 0))
    assert passed.passed and (passed.asset_key, passed.check_name) == (CHECK.asset_key, CHECK.name)
    failed = check_result(CHECK, NodeResult("fail", "Got 3 results", 0.1, 3))
    assert not failed.passed and failed.severity == dg.AssetCheckSeverity.ERROR and failed.description == "Got 3 results"
    assert check_result(CHECK, NodeResult("warn", "Got 1 result", 0.1, 1)).severity == dg.AssetCheckSeverity.WARN


def test_results_are_read_by_node_and_a_build_that_did_not_get_that_far_has_none(tmp_path: Path) -> None:
    path = tmp_path / "run_results.json"
    assert node_results(path) == {}
    path.write_text("{")
    assert node_results(path) == {}
    entry = {"unique_id": "model.p.a", "status": "success", "message": None, "execution_time": 0.1234, "failures": None}
    path.write_text(json.dumps({"results": [entry]}))
    assert node_results(path) == {"model.p.a": NodeResult("success", "", 0.123, 0)}


def test_rows_are_counted_in_the_published_file(tmp_path: Path) -> None:
    assert row_counts(tmp_path / "marts.duckdb") == {}
    with duckdb.connect(str(tmp_path / "marts.duckdb")) as connection:
        connection.execute("create table devices as from range(3)")
    assert row_counts(tmp_path / "marts.duckdb") == {"devices": 3}


def test_a_failed_dbt_test_fails_the_step_and_its_check_and_part_of_the_project_can_be_built(
    settings: Settings, small: SmallLake, dbt_manifest: Path
) -> None:
    small.put("gold/sensor_health", D, [health("d1", 100), health("d1", 40)])  # the same device and window twice
    definitions = build_defs(settings, manifest=dbt_manifest)
    result = run_assets(settings, select=["staging/stg_gold__sensor_health"], definitions=definitions)
    assert not result.is_success
    (failed,) = result.failed_checks
    assert failed.asset == "staging/stg_gold__sensor_health" and failed.check.startswith("unique_together")
    assert "unique_together" in result.errors[0].error and not settings.marts.exists()
    assert {check.asset for check in result.checks} == {"staging/stg_gold__sensor_health"}
