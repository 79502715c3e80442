"""What is read off a build: results by node, tables with the dates that were made, rows that break a test."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from iot_platform.marts.facts import OFFENDING_ROWS, Facts, NodeResult, gather, node_results
from iot_platform_tests.marts.small_lake import MONDAY, SUNDAY, TUESDAY

MODEL, WEEKLY, TEST, UNDATED = "model.p.daily", "model.p.weekly", "test.p.t.1", "test.p.u.2"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    path = tmp_path / "build.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table _made (model varchar, event_date date, invocation_id varchar)")
        connection.executemany(
            "insert into _made values (?, ?, ?)",
            [("daily", SUNDAY, "now"), ("daily", MONDAY, "now"), ("daily", TUESDAY, "before"), ("weekly", MONDAY, "now")],
        )
        connection.execute("create table _pinned as select 'gold/sensor_health' as input, 7 as version")
        connection.execute("create table daily (event_date date, n int)")
        connection.executemany("insert into daily values (?, ?)", [(MONDAY, 1), (TUESDAY, 2)])
        connection.execute("create table weekly as select date '2026-01-05' as week_start, 7 as n")
    return path


def test_results_are_read_by_node_and_a_build_that_did_not_get_that_far_has_none(tmp_path: Path) -> None:
    path = tmp_path / "run_results.json"
    assert node_results(path) == ("", {})
    path.write_text("{")
    assert node_results(path) == ("", {})
    entry = {"unique_id": "model.p.a", "status": "success", "message": None, "execution_time": 0.1234, "failures": None}
    path.write_text(json.dumps({"metadata": {"invocation_id": "i"}, "results": [entry]}))
    assert node_results(path) == ("i", {"model.p.a": NodeResult("success", "", 0.123, 0)})


def test_a_table_has_its_rows_by_date_and_the_dates_that_this_build_made(built: Path) -> None:
    nodes = {
        MODEL: NodeResult("success", relation='"build"."main"."daily"'),
        WEEKLY: NodeResult("success", relation='"build"."main"."weekly"'),
    }
    facts = gather(built, nodes, "now")
    daily = facts.tables[MODEL]
    assert (daily.rows, daily.by_date, daily.made) == (2, {MONDAY: 1, TUESDAY: 1}, {SUNDAY, MONDAY})
    assert daily.previews == {SUNDAY: [], MONDAY: [{"event_date": MONDAY, "n": 1}]}
    assert facts.tables[WEEKLY].made == {MONDAY} and facts.tables[WEEKLY].previews[MONDAY][0]["n"] == 7


def test_a_table_has_the_bytes_of_its_blocks_and_the_build_the_versions_that_it_saw(built: Path) -> None:
    with duckdb.connect(str(built)) as connection:
        connection.execute("create table wide as select date '2026-01-05' as event_date, random() as n from range(200000)")
    nodes = {MODEL: NodeResult("success", relation='"build"."main"."daily"')}
    nodes["model.p.wide"] = NodeResult("success", relation='"build"."main"."wide"')
    facts = gather(built, nodes, "now")
    assert facts.versions == {"gold/sensor_health": 7}
    small, wide = facts.tables[MODEL], facts.tables["model.p.wide"]
    assert 200_000 * 8 * 0.8 < wide.size < built.stat().st_size
    assert 0 < small.size <= 2**18 and small.size_of(MONDAY) == small.size // 2 and small.size_of(SUNDAY) == 0


def test_rows_that_break_a_test_are_counted_by_date_and_some_of_each_date_are_shown(built: Path) -> None:
    many = "select * from daily, range(50) where n = 1 union all select event_date, n, 0 from daily where n = 2"
    nodes = {TEST: NodeResult("fail", sql=many), UNDATED: NodeResult("warn", sql="select n from daily")}
    facts = gather(built, nodes, "now")
    assert facts.offending[TEST].by_date == {MONDAY: 50, TUESDAY: 1}
    assert len(facts.offending[TEST].of(MONDAY)) == OFFENDING_ROWS and len(facts.offending[TEST].of(TUESDAY)) == 1
    assert facts.offending[UNDATED].by_date == {} and facts.offending[UNDATED].of(None) == [{"n": 1}, {"n": 2}]


def test_nothing_is_told_of_a_build_that_left_no_database(tmp_path: Path) -> None:
    nodes = {MODEL: NodeResult("success", relation='"build"."main"."daily"')}
    assert gather(tmp_path / "none.duckdb", nodes, "now") == Facts()
    (tmp_path / "torn.duckdb").write_bytes(b"not a database" * 1000)
    assert gather(tmp_path / "torn.duckdb", nodes, "now") == Facts()
