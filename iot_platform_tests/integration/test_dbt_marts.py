"""The marts from a small lake, by real dbt in its own process: what they hold, what is made again and published."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from iot_platform.automation import marts_sensor
from iot_platform.errors import PlatformError
from iot_platform.lake import Lake
from iot_platform.marts.build import DBT_PROJECT, build, run_dbt, target_folder
from iot_platform.marts.publish import build_file
from iot_platform.settings import Settings
from iot_platform_tests.marts.small_lake import (
    MONDAY,
    SUNDAY,
    TUESDAY,
    anomaly,
    at,
    checked,
    device,
    event,
    fill,
    health,
    p95,
    put,
    put_windows,
    summary,
)

pytestmark = [pytest.mark.integration, pytest.mark.untraced]

WEEK_BEFORE = date(2025, 12, 29)
MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One home for the story that the tests of this file tell in their order."""
    return Settings(home=tmp_path_factory.mktemp("marts-home"), _env_file=None)  # pyright: ignore[reportCallIssue]


@pytest.fixture(scope="module")
def lake(home: Settings) -> Lake:
    lake = Lake(home)
    fill(lake)
    return lake


@pytest.fixture(scope="module")
def built_from_the_shell(home: Settings, lake: Lake) -> subprocess.CompletedProcess[str]:
    """Plain `dbt build` in the project's folder, unit tests and all, with nothing set but where the state is."""
    dbt = Path(sys.executable).with_name("dbt")
    environment = home.environment() | {"DBT_TARGET_PATH": str(home.home / "shell-target"), "NO_COLOR": "1"}
    command = [dbt, "build", "--log-path", home.logs]
    return subprocess.run(command, cwd=DBT_PROJECT, env=environment, capture_output=True, text=True, check=False)


def rows(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(settings.marts, read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        return connection.execute(sql).fetchall()


def anomalies(settings: Settings) -> list[tuple[Any, ...]]:
    return rows(settings, "select event_date, end_date, started_at, ended_at, readings from anomalies order by all")


def built(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of the file that dbt builds; the records of its runs, which differ each time, left out."""
    with duckdb.connect(build_file(settings), read_only=True) as connection:
        tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
        names = [f'{schema}."{table}"' for schema, table in tables if table not in {"_results", "_made"}]
        return {name: connection.execute(f"from {name} order by all").fetchall() for name in names}


def mark(settings: Settings, by: str | None) -> None:
    """Mark every row of some tables by date in the file that dbt builds: a row made again carries no mark."""
    with duckdb.connect(build_file(settings)) as connection:
        connection.execute("update staging.stg_gold__sensor_windows set zone = ?", [by])
        connection.execute("update environment_windows set zone = ?", [by])
        connection.execute("update device_health_daily set zone = ?", [by])
        connection.execute("update duration_p95_weekly set min_daily_p95 = ? where week_start = ?", [by and -1, MONDAY])


def test_plain_dbt_build_makes_and_publishes_the_marts(
    home: Settings, built_from_the_shell: subprocess.CompletedProcess[str]
) -> None:
    assert built_from_the_shell.returncode == 0, built_from_the_shell.stdout
    assert built_from_the_shell.stderr == ""
    assert "eprecat" not in built_from_the_shell.stdout and "WARN=0" in built_from_the_shell.stdout
    assert rows(home, "from environment_windows where event_date = date '2026-01-05'") == [
        ("room", MONDAY, MIDNIGHT, None, "hall", None,
         20.0, 19.0, 21.0, 50.0, 49.0, 51.0, 10.0, 15, 3)
    ]  # fmt: skip
    assert rows(home, "select device_id, health_pct, is_silent from device_health_daily where event_date = '2026-01-06'"
                " order by all") == [("mute", 0.0, True), ("room", 100.0, False)]  # fmt: skip
    devices = "select device_id, source, last_event_date, readings, rejected, health_pct from devices order by device_id"
    assert rows(home, devices) == [
        ("mute", "declared", None, 0, 0, 0.0), ("room", "declared", TUESDAY, 15, 9, 100.0),
    ]  # fmt: skip
    # Monday and Tuesday have 300 events each, 0 … 299 ms: together enough for the week; Sunday's week has too few.
    weekly = "select week_start, device_type, days, events, excluded, mean, p95, max_daily_p95 from duration_p95_weekly"
    assert rows(home, weekly) == [(MONDAY, "motion", 2, 600, 0, 149.5, pytest.approx(284.05), 100.0)]
    sites = "select site, devices, readings, anomalies, rejected, health_pct, silent_devices, energy from site_daily"
    assert rows(home, f"{sites} where event_date = '2026-01-06' order by all") == [
        ("hall", 1, 5, 1, 3, 100.0, 0, 10.0), ("unknown", 1, 0, 0, 0, 0.0, 1, None),
    ]  # fmt: skip
    checks = "select event_date, passed, pass_rate_7d, figure_change_7d from check_trend order by all"
    assert rows(home, checks) == [(SUNDAY, True, 100.0, None), (MONDAY, True, 100.0, pytest.approx(0.2))]
    assert anomalies(home) == [
        (SUNDAY, MONDAY, at(SUNDAY, 1410), at(MONDAY, 9), 4), (MONDAY, MONDAY, at(MONDAY, 600), at(MONDAY, 601), 2),
        (TUESDAY, TUESDAY, at(TUESDAY, 3), at(TUESDAY, 3), 2),
    ]  # fmt: skip


def test_the_published_file_needs_nothing_outside_it(
    home: Settings, built_from_the_shell: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    alone = tmp_path / "alone.duckdb"
    alone.write_bytes(home.marts.read_bytes())
    with duckdb.connect(alone, read_only=True) as connection:
        assert connection.execute("select count(*) from duckdb_views() where not internal").fetchall() == [(0,)]
        assert connection.execute("select count(*) from staging.stg_gold__sensor_windows").fetchall() == [(9,)]
        described = connection.execute("select comment from duckdb_columns() where column_name = 'temperature'").fetchall()
        assert described == [("mean temperature (°C)",)]


@pytest.mark.usefixtures("built_from_the_shell")
def test_only_dates_whose_input_levels_moved_are_made_again_and_a_full_refresh_makes_the_same(
    home: Settings, lake: Lake
) -> None:
    mark(home, "marked")
    put_windows(lake, MONDAY, 30.0, 11)
    put(lake, "gold/sensor_windows", SUNDAY, [], 11)  # a date may also lose all its rows
    put(lake, "gold/duration_p95", MONDAY, [], 11)
    put(lake, "silver/readings", SUNDAY, [event(n, SUNDAY, n / 7) for n in range(500)], 11)
    # Monday's anomaly now lasts until Tuesday's begins: one event of three dates, though Sunday and Tuesday did not move.
    put(lake, "gold/anomaly_events", MONDAY, [anomaly(MONDAY, 5, 1439)], 11)
    result = build(home)
    assert {node.status for node in result.nodes.values()} == {"success", "pass"} and result.is_published
    kinds = Counter(unique_id.split(".")[0] for unique_id in result.nodes)
    assert (kinds["model"], kinds["test"]) == (16, 36)
    assert rows(home, "select event_date, zone, temperature from environment_windows order by all") == [
        (MONDAY, None, 30.0), (TUESDAY, "marked", 20.0),
    ]  # fmt: skip
    assert rows(home, "select distinct event_date, zone from staging.stg_gold__sensor_windows order by all") == [
        (MONDAY, None), (TUESDAY, "marked"),
    ]  # fmt: skip
    assert rows(home, "select distinct zone from device_health_daily") == [("marked",)]
    assert rows(home, "select week_start, min_daily_p95, events from duration_p95_weekly order by all") == [
        (WEEK_BEFORE, None, 500), (MONDAY, None, 600),
    ]  # fmt: skip
    levels = "select event_date, level from _input_levels where model = 'environment_windows' order by all"
    assert rows(home, levels) == [(SUNDAY, 11), (MONDAY, 11), (TUESDAY, 10)]

    assert anomalies(home) == [(SUNDAY, TUESDAY, at(SUNDAY, 1410), at(TUESDAY, 3), 6)]
    mark(home, None)
    by_dates = built(home)
    build(home, full_refresh=True)
    assert built(home) == by_dates


@pytest.fixture(scope="module")
def failure(home: Settings, lake: Lake, built_from_the_shell: subprocess.CompletedProcess[str]) -> tuple[PlatformError, int]:
    """What a build says whose test fails, and the inode of the file that was published before it."""
    published = home.marts.stat().st_ino
    twice = summary("room", "temperature", MONDAY)
    put(lake, "gold/daily_summary", MONDAY, [twice, twice], 13)
    with pytest.raises(PlatformError) as raised:
        build(home, select=["stg_gold__daily_summary"])
    return raised.value, published


def test_a_date_that_lost_all_its_rows_leaves_the_marts_and_then_nothing_is_ahead(home: Settings, lake: Lake) -> None:
    lake_levels, published_levels = marts_sensor.lake_levels, marts_sensor.published_levels
    put(lake, "gold/sensor_health", SUNDAY, [], 12)
    put(lake, "registry/devices", None, [device("room", site="attic"), device("mute")], 12)
    put(lake, "gold/anomaly_events", SUNDAY, [], 12)
    assert rows(home, f"select count(*) from device_health_daily where event_date = '{SUNDAY}'") == [(2,)]
    build(home)
    assert rows(home, f"select count(*) from device_health_daily where event_date = '{SUNDAY}'") == [(0,)]
    assert rows(home, "select site from devices where device_id = 'room'") == [("attic",)]
    # What is left of the event begins on Monday now.
    assert anomalies(home) == [(MONDAY, TUESDAY, at(MONDAY, 5), at(TUESDAY, 3), 4)]
    assert published_levels(home.marts) == lake_levels(lake)
    with dg.DagsterInstance.ephemeral() as instance:
        nothing = marts_sensor.decide(lake_levels(lake), published_levels(home.marts), instance, MIDNIGHT)
    assert isinstance(nothing, dg.SkipReason)


def test_a_failed_test_is_named_and_nothing_is_published(home: Settings, failure: tuple[PlatformError, int]) -> None:
    error, published = failure
    assert "the test unique_key_stg_gold__daily_summary" in str(error) and "failed: 2 rows break it" in str(error)
    assert home.marts.stat().st_ino == published


def test_days_narrow_a_build_and_what_failed_before_still_stops_publishing(
    home: Settings, lake: Lake, failure: tuple[PlatformError, int]
) -> None:
    before = [row for row in built(home)['main."environment_windows"'] if row[1] != TUESDAY]
    put_windows(lake, MONDAY, 40.0, 12)
    put_windows(lake, TUESDAY, 41.0, 12)
    put(lake, "gold/duration_p95", TUESDAY, [p95("motion", 200.0)], 12)
    models = ["stg_gold__sensor_windows", "environment_windows", "stg_gold__duration_p95", "duration_p95_weekly"]
    assert not build(home, (TUESDAY, TUESDAY), full_refresh=True, select=models).is_published
    after = built(home)
    assert [row for row in after['main."environment_windows"'] if row[1] != TUESDAY] == before
    assert [row[6] for row in after['main."environment_windows"'] if row[1] == TUESDAY] == [41.0]
    assert [(row[0], row[-1]) for row in after['main."duration_p95_weekly"'] if row[0] == MONDAY] == [(MONDAY, 200.0)]
    assert home.marts.stat().st_ino == failure[1]


def test_dbt_says_which_sources_are_fresh(home: Settings, lake: Lake, failure: tuple[PlatformError, int]) -> None:
    now = datetime.now(UTC)
    put(lake, "gold/duration_p95", TUESDAY, [p95("motion", 200.0) | {"processed_at": now}], 14)
    put(lake, "gold/sensor_health", TUESDAY, [health("room", TUESDAY, 5, processed_at=now - timedelta(days=3))], 14)
    put(lake, "ops/check_results", None, [checked(3, SUNDAY, now)], 14)
    finished = run_dbt(home, ["source", "freshness"])
    found = json.loads((target_folder(home) / "sources.json").read_text())["results"]
    status = {result["unique_id"].removeprefix("source.iot_platform."): result["status"] for result in found}
    assert finished.returncode == 1  # some are older than a week
    assert {name for name, one in status.items() if one == "pass"} == {"gold.duration_p95", "ops.check_results"}
    assert status["gold.sensor_health"] == "warn" and status["gold.sensor_windows"] == "error"
    assert "registry.devices" not in status and home.marts.stat().st_ino == failure[1]
