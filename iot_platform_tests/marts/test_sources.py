"""What dbt sees of the lake: every source, typed as its contract says, pinned, with the levels of its dates."""

from __future__ import annotations

import duckdb
import pytest

from iot_platform.contracts.tables import TABLES
from iot_platform.lake import Lake
from iot_platform.marts.sources import SOURCES, attach_lake
from iot_platform.settings import Settings
from iot_platform_tests.marts.small_lake import MONDAY, SUNDAY, fill, put_windows


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def test_a_lake_without_tables_gives_empty_typed_sources_and_stays_as_it_is(
    settings: Settings, connection: duckdb.DuckDBPyConnection
) -> None:
    attach_lake(connection, Lake(settings))
    for name in SOURCES:
        view = connection.table(f"lake.{name.replace('/', '.')}")
        assert view.columns == list(TABLES[name].column_names) and view.fetchall() == []
    devices = connection.table("lake.registry.devices")
    types = {name: str(kind) for name, kind in zip(devices.columns, devices.types, strict=True)}
    assert (types["installed_at"], types["cadence_seconds"]) == ("TIMESTAMP WITH TIME ZONE", "DOUBLE")
    assert connection.execute("select count(*) from lake.main.levels").fetchall() == [(0,)]
    assert connection.execute("from lake.main.pinned").fetchall() == []
    assert not settings.home.exists()


def test_sources_stay_at_the_version_they_were_attached_at(
    settings: Settings, connection: duckdb.DuckDBPyConnection
) -> None:
    lake = Lake(settings)
    fill(lake)
    attach_lake(connection, lake)
    put_windows(lake, MONDAY, 99.0, 11)
    warmest = "select max(avg) from lake.gold.sensor_windows where metric = 'temperature'"
    assert connection.execute(warmest).fetchall() == [(20.0,)]
    version = connection.execute("select version from lake.main.pinned where input = 'gold/sensor_windows'").fetchall()
    assert version == [(lake.snapshot("gold/sensor_windows").version - 1,)]
    levels = "select event_date, level from lake.main.levels where input = 'gold_sensor_windows' order by all"
    assert connection.execute(levels).fetchall()[:2] == [(SUNDAY, 10), (MONDAY, 10)]
