"""`query` sees every table and mart at this moment's version, changes nothing, and says what is wrong in one line."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import pytest

from iot_platform.contracts.tables import TABLES
from iot_platform.errors import InputError, LakeError
from iot_platform.lake import Lake
from iot_platform.lake.query import as_json, connect, select
from iot_platform_tests.lake.conftest import NOW, Put, p95_row

DAY = date(2026, 2, 27)


def test_every_table_is_a_view_even_before_it_was_made(lake: Lake) -> None:
    with connect(lake) as connection:
        for contract in TABLES.values():
            described = connection.execute(f"describe {contract.view}").fetchall()
            assert [row[0] for row in described] == list(contract.column_names)
            assert connection.execute(f"select count(*) from {contract.view}").fetchone() == (0,)
    assert not lake.exists("gold/duration_p95"), "a question makes no table"


def test_rows_come_with_their_date_as_a_date_and_times_in_utc(lake: Lake, put: Put) -> None:
    put("gold/duration_p95", DAY, [p95_row(DAY)], level=1)
    names, rows = select(lake, "select event_date, processed_at, p95 from gold_duration_p95")
    assert names == ["event_date", "processed_at", "p95"]
    assert rows == [(DAY, NOW, 4.0)]
    assert as_json(rows[0]) == ["2026-02-27", "2026-03-01T12:00:00Z", 4.0]


def test_marts_stand_beside_the_tables(lake: Lake) -> None:
    lake.settings.marts.parent.mkdir(parents=True)
    with duckdb.connect(str(lake.settings.marts)) as marts:
        marts.execute("create table devices as select 'd1' as device_id")
        marts.execute("create table _input_levels as select 1 as level")
    assert select(lake, "select * from devices")[1] == [("d1",)]
    with pytest.raises(InputError, match="_input_levels"):
        select(lake, "select * from _input_levels")


@pytest.mark.parametrize(
    "sql",
    ["create table t(i int)", "copy (select 1) to 'x.csv'", "select 1; select 2", "", "attach 'x.db'", "set threads = 1"],
)
def test_only_one_reading_statement_runs(lake: Lake, sql: str) -> None:
    with pytest.raises(InputError, match="one SELECT"):
        select(lake, sql)


WRONG = ["selec 1", "select * from nothing", "select nothing from gold_duration_p95", "select 1 / 'x'"]


@pytest.mark.parametrize("sql", WRONG)
def test_a_wrong_question_is_one_line(lake: Lake, sql: str) -> None:
    with pytest.raises(InputError) as caught:
        select(lake, sql)
    assert "\n" not in str(caught.value)


def test_tables_may_be_joined_by_columns_of_one_name(lake: Lake) -> None:
    sql = "select count(*) from gold_sensor_health left join registry_devices using (device_id)"
    assert select(lake, sql)[1] == [(0,)]


def test_a_missing_data_file_is_said(lake: Lake, put: Put) -> None:
    put("gold/duration_p95", DAY, [p95_row(DAY)], level=1)
    for file in lake.snapshot("gold/duration_p95").files():
        Path(file).unlink()
    with pytest.raises(LakeError, match="cannot be read"):
        select(lake, "select sum(p95) from gold_duration_p95")
    assert select(lake, "select count(*) from gold_daily_summary")[1] == [(0,)]


def test_a_damaged_data_file_is_said(lake: Lake, put: Put) -> None:
    put("gold/duration_p95", DAY, [p95_row(DAY)], level=1)
    (file,) = map(Path, lake.snapshot("gold/duration_p95").files())
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(LakeError, match="cannot be read"):
        select(lake, "select sum(p95) from gold_duration_p95")


def test_bytes_and_nested_values_become_json() -> None:
    assert as_json([b"text", b"\xff", {"at": NOW}, None]) == ["text", "ff", {"at": "2026-03-01T12:00:00Z"}, None]
