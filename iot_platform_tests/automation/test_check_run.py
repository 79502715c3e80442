"""Checks run alone: nothing is made, each date has its results, the run and its results are on record."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from iot_platform.automation import runs
from iot_platform.automation.check_run import run_checks
from iot_platform.automation.run import persistent_instance
from iot_platform.automation.selection import selected_checks
from iot_platform.definitions import build_defs
from iot_platform.errors import InputError
from iot_platform.lake import Lake
from iot_platform.lake.query import select
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake
from iot_platform_tests.checks.rows import usable
from iot_platform_tests.conftest import MakeSettings


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    small = SmallLake(Lake(settings))
    small.day(D, readings=24)
    for day in (D, D + DAY):
        small.put("silver/readings", day, [usable(n, day) for n in range(24)])
    return small


@pytest.fixture
def definitions(settings: Settings, dbt_manifest: Path) -> dg.Definitions:
    return build_defs(settings, manifest=dbt_manifest)


def test_each_date_has_its_result_and_nothing_is_made(
    small: SmallLake, settings: Settings, definitions: dg.Definitions
) -> None:
    small.put("silver/readings", D + DAY, [usable(0, D + DAY), usable(0, D + DAY)])
    versions = {table: small.lake.snapshot(table).version for table in ("silver/readings", "bronze/readings")}
    chosen = ["silver/readings/keys_are_unique", "late_rate", "silver/readings/schema_is_as_declared"]
    result = run_checks(settings, D, D + DAY, chosen, definitions=definitions).result
    found = {(one.asset, one.check, one.day): one.passed for one in result.checks}
    assert found == {
        ("silver/readings", "keys_are_unique", D): True,
        ("silver/readings", "keys_are_unique", D + DAY): False,
        ("silver/readings", "schema_is_as_declared", None): True,
        ("bronze/readings", "late_rate", D): True,
        ("bronze/readings", "late_rate", D + DAY): True,
    }
    assert not result.made and result.is_success  # a check that does not block ends no step
    assert {table: small.lake.snapshot(table).version for table in versions} == versions
    with persistent_instance(settings) as instance:
        run = instance.get_run_by_id(result.run_id)
        assert run and run.tags[runs.RANGE_START] == "2026-03-10" and run.tags[runs.RANGE_END] == "2026-03-11"
    kept = select(small.lake, f"select count(*), count(figure) from ops_check_results where run_id = '{result.run_id}'")
    assert kept[1] == [(5, 4)]  # of D+1 nothing is in Bronze: not judged, no figure


def test_a_blocking_check_that_fails_is_an_error_of_the_run(
    small: SmallLake, settings: Settings, definitions: dg.Definitions
) -> None:
    small.put("silver/readings", D, [usable(0, device_id=None)])
    result = run_checks(settings, D, D, ["silver/readings/contract"], definitions=definitions).result
    assert not result.is_success and [check.severity for check in result.failed_checks] == ["ERROR"]
    assert result.errors and not result.untold_errors  # that the step ended for it is no second failure


def test_a_date_that_cannot_be_read_takes_no_other_date_s_results_away(
    small: SmallLake, settings: Settings, definitions: dg.Definitions
) -> None:
    (torn,) = small.lake.snapshot("silver/readings").files([D])
    Path(str(torn)).write_bytes(b"torn")
    result = run_checks(settings, D, D + DAY, ["silver/readings/keys_are_unique"], definitions=definitions).result
    assert [(one.day, one.passed) for one in result.checks] == [(D + DAY, True)]
    (error,) = result.untold_errors
    assert error.error.startswith(f"silver/readings: not checked: {D}. silver/readings: ") and "LakeError" not in error.error


def test_what_is_not_judged_is_told_apart_from_what_passed(
    small: SmallLake, settings: Settings, definitions: dg.Definitions
) -> None:
    result = run_checks(settings, D, D + DAY, ["late_rate"], definitions=definitions).result
    assert {one.day: (one.passed, one.is_judged) for one in result.checks} == {D: (True, True), D + DAY: (True, False)}


def test_words_name_layers_tables_checks_or_assets_of_dagster(definitions: dg.Definitions) -> None:
    def chosen(*words: str) -> set[str]:
        return {f"{'/'.join(key.asset_key.path)} {key.name}" for key in selected_checks(definitions, words)}

    assert chosen("volume") == {"bronze/readings volume", "silver/readings volume"}
    assert {name.split()[0] for name in chosen("registry")} == {"registry/devices", "registry/metrics"}
    assert chosen("gold/duration_p95") == chosen('key:"gold/duration_p95"')
    assert "gold/sensor_health fleet_is_healthy" in chosen("group:gold")
    assert chosen() > chosen("silver", "marts") and chosen("marts")


@pytest.mark.parametrize(
    ("first", "chosen", "says"),
    [
        (D, "lateness", "no check is called 'lateness'. There are checks anomaly_rate, "),
        (D, "kafka", "no check is called 'kafka'"),
        (date(1999, 1, 1), "late_rate", "beyond the partitions"),
        (D + DAY, "late_rate", "is after the last"),
        (D, "marts", "there are no marts to be tested yet"),
    ],
)
def test_wrong_use_is_one_line(
    settings: Settings, definitions: dg.Definitions, first: date, chosen: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        run_checks(settings, first, D, [chosen], definitions=definitions)


def test_a_wrong_thresholds_file_is_told_before_anything_runs(
    make_settings: MakeSettings, definitions: dg.Definitions, tmp_path: Path
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("late_rate: {wran: 1}")
    settings = make_settings(thresholds_file=path)
    with pytest.raises(InputError, match=r"own\.yaml: late_rate\.wran"):
        run_checks(settings, D, D, definitions=definitions)
    assert not settings.home.exists()


def test_a_wrong_thresholds_file_fails_a_step_in_one_line(
    small: SmallLake, make_settings: MakeSettings, dbt_manifest: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("late_rate: {wran: 1}")
    definitions = build_defs(make_settings(thresholds_file=path), manifest=dbt_manifest)
    result = run_checks(small.lake.settings, D, D, ["late_rate"], definitions=definitions).result
    assert [step.error.startswith(f"{path}: late_rate.wran: no such key") for step in result.errors] == [True]
