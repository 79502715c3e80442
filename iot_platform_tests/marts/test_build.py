"""A build that goes wrong ends in one line that names what failed; wrong use is told before dbt starts."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pytest
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt_common.exceptions import DbtRuntimeError

from iot_platform.errors import InputError, PlatformError, ServiceError
from iot_platform.local.process import locked
from iot_platform.marts.build import build, failure
from iot_platform.marts.dbt_plugin import Plugin, wait_for_file
from iot_platform.marts.facts import NodeResult
from iot_platform.marts.publish import build_file
from iot_platform.settings import Settings


@pytest.mark.parametrize(
    ("node", "result", "expected"),
    [
        (
            "test.iot_platform.unique_devices_device_id.ab12",
            NodeResult("fail", "Got 3 results, configured to fail if != 0", failures=3),
            "marts: the test unique_devices_device_id failed: 3 rows break it.",
        ),
        (
            "model.iot_platform.devices",
            NodeResult("error", "Runtime Error in model devices (devices.sql)\n  Out of Memory Error: full\n  compiled"),
            "marts: the model devices failed: Out of Memory Error: full.",
        ),
        ("unit_test.iot_platform.devices.all_there", NodeResult("error"), "marts: the unit test devices failed: error."),
        (
            "operation.iot_platform.iot_platform-on-run-end-1", NodeResult("error", "disk full"),
            "marts: the step iot_platform-on-run-end-1 failed: disk full.",
        ),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_that_names_the_node(
    settings: Settings, node: str, result: NodeResult, expected: str
) -> None:
    text = str(failure(node, result, settings))
    assert text.startswith(expected) and "dbt.log" in text and "\n" not in text


def test_dates_in_the_wrong_order_are_wrong_use(settings: Settings) -> None:
    with pytest.raises(InputError, match="the first date 2026-01-02 is after the last 2026-01-01"):
        build(settings, (date(2026, 1, 2), date(2026, 1, 1)))


def test_a_home_that_cannot_be_written_is_one_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="cannot be made"):
        build(settings.model_copy(update={"home": tmp_path / "file" / "home"}))


def test_a_broken_build_is_one_line_and_keeps_what_is_published(settings: Settings) -> None:
    build_file(settings).parent.mkdir(parents=True)
    build_file(settings).write_bytes(b"not a database" * 1000)
    settings.marts.write_bytes(b"published before")
    with pytest.raises(PlatformError, match=r"build.duckdb cannot be opened .*If it is damaged remove it") as raised:
        build(settings)
    assert "\n" not in str(raised.value) and settings.marts.read_bytes() == b"published before"


def test_a_second_writer_waits_and_then_says_who_it_waits_for(settings: Settings) -> None:
    path = build_file(settings)
    path.parent.mkdir(parents=True)
    holder = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(ServiceError, match="another process has been writing"):
            wait_for_file(path, 0.3)
    wait_for_file(path, 5)


def test_two_builds_of_one_home_take_turns(settings: Settings) -> None:
    with locked(settings.marts.with_name("build.lock"), 1), pytest.raises(ServiceError, match="another process holds"):
        build(settings, wait_seconds=0.2)


def test_dbt_writes_where_the_settings_say(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_HOME", str(settings.home))
    credentials = DuckDBCredentials(path="build.duckdb", database="build", schema="main")
    plugin = Plugin("dbt_plugin", {}, credentials)
    plugin.update_connection_config(credentials, {})
    assert Path(credentials.path) == build_file(settings)
    with duckdb.connect(credentials.path) as connection:
        plugin.configure_connection(connection)
        assert connection.execute("select count(*) from lake.gold.sensor_windows").fetchall() == [(0,)]


def test_what_the_plugin_meets_reaches_dbt_as_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_HOME", str(settings.home))
    table = settings.home / "lake" / "gold" / "sensor_windows" / "_delta_log"
    table.mkdir(parents=True)
    (table / f"{0:020}.json").write_text("torn")
    credentials = DuckDBCredentials(path="build.duckdb", database="build", schema="main")
    plugin = Plugin("dbt_plugin", {}, credentials)
    with duckdb.connect() as connection, pytest.raises(DbtRuntimeError, match="gold/sensor_windows: the Delta log"):
        plugin.configure_connection(connection)


def test_a_connection_that_only_reads_neither_waits_nor_sees_the_lake(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_HOME", str(settings.home))
    build_file(settings).parent.mkdir(parents=True)
    duckdb.connect(build_file(settings)).close()
    credentials = DuckDBCredentials(path="build.duckdb", database="build", schema="main")
    plugin = Plugin("dbt_plugin", {}, credentials)
    with duckdb.connect(build_file(settings), read_only=True):
        plugin.update_connection_config(credentials, {"access_mode": "READ_ONLY"})
        with duckdb.connect(credentials.path, read_only=True) as connection:
            plugin.configure_connection(connection)
            databases = connection.execute("select database_name from duckdb_databases()").fetchall()
            assert ("lake",) not in databases
