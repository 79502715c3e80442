"""query, report and status need no service; people get tables, programs JSON alone, mistakes one line and an exit code."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest

from iot_platform.ingest.lease import lease
from iot_platform.ingest.progress import ProgressLog
from iot_platform.ingest.sink import BatchResult
from iot_platform.lake import Lake
from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform.simulator.spool import Outgoing, Spool
from iot_platform_tests.assets.small_lake import SmallLake, at
from iot_platform_tests.cli.conftest import Iot
from iot_platform_tests.lake.conftest import Put, lake, p95_row, put

__all__ = ["lake", "put"]  # fixtures

DAY = date(2026, 2, 27)
ANALYSIS = PROJECT_ROOT / "examples" / "analysis.sql"


@pytest.fixture
def filled(lake: Lake, put: Put) -> Lake:
    put("gold/duration_p95", DAY, [p95_row(DAY, "light", p95=1 / 3), p95_row(DAY, "motion")], level=1)
    return lake


def test_query_prints_a_table_for_people_and_objects_for_programs(iot: Iot, filled: Lake) -> None:
    sql = "select device_type, p95, processed_at from gold_duration_p95 order by 1"
    shown = iot("query", sql)
    assert (shown.code, shown.err) == (0, "")
    assert "light" in shown.out
    assert "2 rows" in shown.out
    assert iot("query", sql, "--json").json == [
        {"device_type": "light", "p95": 1 / 3, "processed_at": "2026-03-01T12:00:00Z"},
        {"device_type": "motion", "p95": 4.0, "processed_at": "2026-03-01T12:00:00Z"},
    ]


def test_report_p95_is_the_same_in_every_format(iot: Iot, filled: Lake) -> None:
    rows = iot("report", "p95", "--from", "2026-02-26", "--to", "2026-02-28", "--format", "json").json
    assert [row["device_type"] for row in rows] == ["light", "motion"]
    assert rows[0] == {
        "event_date": "2026-02-27", "device_type": "light", "events": 500, "excluded": 1, "mean": 2.0, "std": 1.0,
        "p95": 1 / 3,
    }  # fmt: skip
    assert iot("report", "p95", "--json").json == rows
    printed = iot("report", "p95", "--format", "csv").out
    assert [float(row["p95"]) for row in csv.DictReader(io.StringIO(printed))] == [1 / 3, 4.0]
    assert "light" in iot("report", "p95").out


def test_a_range_without_data_succeeds_and_says_so(iot: Iot, filled: Lake) -> None:
    empty = iot("report", "p95", "--from", "2026-01-01")
    assert empty.code == 0
    assert "no readings of these dates have come" in empty.out


def test_a_date_with_readings_and_no_report_says_why(iot: Iot, settings: Settings) -> None:
    SmallLake(Lake(settings)).ingest([{"event_time": at(DAY)}])
    assert "no device type had 500 events" in iot("report", "p95", "--from", "2026-02-27").out


def test_query_shows_all_tables_and_prints_decimals_as_numbers(iot: Iot, filled: Lake) -> None:
    names = {row["name"] for row in iot("query", "show tables", "--json").json}
    assert {"gold_duration_p95", "silver_readings", "bronze_quarantine"} <= names
    assert iot("query", "select 1.5 as a, 2::decimal(9, 2) as b, 3::hugeint as c", "--json").json == [
        {"a": 1.5, "b": 2, "c": 3}
    ]


def test_status_of_an_empty_home_is_empty_and_balanced(iot: Iot) -> None:
    found = iot("status", "--json").json
    assert found["ledger"] == []
    assert found["offsets"] == {
        "consumed": 0, "bronze_messages": 0, "quarantined": 0, "redriven": 0, "erased": 0, "expired": 0,
        "landing": 0, "without_record": 0, "balanced": True,
    }  # fmt: skip
    assert all(topic["lag"] is None for topic in found["topics"].values())
    assert found["tables"]["silver/readings"] == {"version": None, "rows": 0, "bytes": 0, "dates": {}}
    assert found["ingest"] == {"state": "absent", "said": "nobody ingested yet", "progress": None, "supervisor": None}
    assert "no broker answers" in iot("status").out


def test_status_tells_how_ingestion_goes_and_its_last_error(iot: Iot, settings: Settings) -> None:
    with lease(settings, "continuous") as held:
        log = ProgressLog(settings, "continuous", held)
        log.begin(3, {"t": {0: 5}}, {"t": 9})
        log.state("waiting", "no broker answers")
        found = iot("status", "--json").json["ingest"]
        assert (found["state"], found["progress"]["topics"]["t"]["lag"]) == ("waiting", 4)
        assert "landed" not in found["progress"]
        shown = iot("status").out
        assert "Ingestion: waiting: process" in shown and "generation 3" in shown
        assert "last error, at" in shown and shown.count("no broker answers") >= 2
        assert "batch" not in shown and "messages a second" not in shown  # none came yet
        log.batch_begins(0)
        assert "batch" not in iot("status").out
        log.batch(BatchResult(0, 1_200, 1_200, 0, 0, {DAY: 1_200}, {"t": {0: (5, 1_205)}}), 2.5, {})
        assert "in the last minute, the last batch brought 1,200 in 2.5 s, 0 MB" in " ".join(iot("status").out.split())
        log.state("failed", "the disk is full")
    assert "Ingestion: failed: the last ingest failed: the disk is full" in iot("status").out


def test_resend_with_nothing_to_send_is_done_and_without_a_broker_is_one_line(iot: Iot, settings: Settings) -> None:
    assert "messages sent again: 0" in iot("resend").out
    assert iot("resend", "--json").json["read"] == 0
    spool = Spool(settings, "r")
    spool.keep(Outgoing("t", b"k", b"1", []), "away")
    spool.close()
    failed = iot("resend")
    assert failed.code == 1 and failed.err.count("\n") == 1 and "broker" in failed.err
    assert spool.waiting == 1


def test_status_tells_what_is_pending(iot: Iot, settings: Settings) -> None:
    SmallLake(Lake(settings)).ingest([{"event_time": at(DAY)}, {"event_time": at(DAY, 13)}], refused=[{}])
    found = iot("status", "--json").json
    (row,) = found["ledger"]
    assert row == {
        "event_date": "2026-02-27", "bronze": 2, "silver": 0, "rejected": {}, "pending": 2, "erased": 0, "expired": 0,
        "balanced": True,
    }  # fmt: skip
    assert found["offsets"]["balanced"]
    assert found["offsets"]["quarantined"] == 1
    assert found["tables"]["bronze/readings"]["dates"] == {"2026-02-27": 2}
    assert "2026-02-27" in iot("status").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("query", "drop table x"), "one SELECT"),
        (("query", "select * from nowhere"), "nowhere"),
        (("query", "from device_health_daily"), "none are built yet; build them by `iot materialize`"),
        (("query", "--file", str(ANALYSIS)), "least_healthy_devices: the SQL does not fit the tables: "),
        (("query", "--file", str(ANALYSIS)), "build them by `iot materialize`"),
        (("query", "select 1", "--name", "x"), "Give the file by --file"),
        (("materialize", "--select", "gold/none"), "nothing is called 'gold/none'"),
        (("materialize", "--outdated", "--select", "gold/none"), "nothing is called 'gold/none'"),
        (("report", "p95", "--from", "yesterdaz"), "--from 'yesterdaz' is no date"),
        (("report", "p95", "--from", "2026-02-02", "--to", "2026-02-01"), "lies before"),
        (("materialize", "--from", "2026-02-01", "--select", "gold/none"), "nothing is called 'gold/none'"),
        (("materialize", "--from", "1999-01-01"), "go beyond the partitions"),
    ],
)
@pytest.mark.usefixtures("parsed_home")
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(iot: Iot, arguments: tuple[str, ...], said: str) -> None:
    ran = iot(*arguments)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert len([line for line in ran.err.splitlines() if line.strip()]) == 1
    assert ran.out == ""


def test_a_wrong_setting_names_its_variable(iot: Iot) -> None:
    ran = iot("status", IOT_ENGINE="abacus")
    assert ran.code == 2
    assert "IOT_ENGINE" in ran.err


def test_a_corrupt_table_is_one_line_and_exit_code_1(iot: Iot, filled: Lake) -> None:
    from pathlib import Path

    log = Path(filled.path("gold/duration_p95")) / "_delta_log" / "00000000000000000002.json"
    log.write_text("{")
    ran = iot("report", "p95")
    assert ran.code == 1
    assert "gold/duration_p95" in ran.err
    assert "Traceback" not in ran.err


def test_every_command_has_help_with_an_example(iot: Iot) -> None:
    commands = ["demo", "simulate", "replay", "ingest", "materialize", "check", "query", "status", "report", "services"]
    commands += ["topics"]
    assert iot("--help").code == 0
    for command in commands:
        shown = iot(command, "--help")
        assert shown.code == 0
        assert "Example: iot" in shown.out, command


def test_maintain_merges_what_lies_in_many_files_and_says_so(iot: Iot, settings: Settings) -> None:
    small = SmallLake(Lake(settings))
    for hour in range(5):
        small.ingest([{"event_time": at(DAY, hour)}])
    asked = iot("maintain", "--dry-run").out
    assert "What would be done" in asked and len(small.lake.snapshot("bronze/readings").active) == 5
    (line,) = [line for line in asked.splitlines() if " bronze/readings " in line]
    _, dates, files, into, _, into_mb, *_ = (cell.strip() for cell in line.strip("│").split("│"))
    assert (dates, files, into, into_mb) == ("1", "5", "-", "-")  # what they come to is known afterwards
    shown = iot("maintain")
    assert shown.code == 0 and "bronze/readings" in shown.out and "maintenance of the tables" in shown.err
    assert len(small.lake.snapshot("bronze/readings").active) == 1
    again = {row["table"]: row for row in iot("maintain", "--json").json}
    assert again["bronze/readings"]["files_merged"] == 0


def test_maintain_says_what_would_go_before_anything_does(iot: Iot, settings: Settings) -> None:
    small = SmallLake(Lake(settings))
    small.ingest([{"event_time": at(DAY, 3)}], [{"event_date": DAY}])
    kept = {"IOT_KEEP_QUARANTINE_DAYS": "5", "IOT_KEEP_BRONZE_DAYS": "5"}
    shown = iot("maintain", "--dry-run", **kept)
    assert shown.code == 0, shown.err
    assert "bronze/quarantine: 1 date(s) with 1 rows have had their time: would be deleted (" in shown.out
    assert f"bronze/readings: dates before {DAY} would be closed" in shown.out
    assert "bronze/readings: stays" in shown.out and "is not made from its newest inputs" in shown.out
    assert len(small.rows("bronze/quarantine")) == 1
    rows = {row["table"]: row for row in iot("maintain", "--json", **kept).json}
    assert rows["bronze/quarantine"]["rows_expired"] == 1 and not small.rows("bronze/quarantine")
    assert rows["bronze/readings"]["closed_before"] == DAY.isoformat() and "not made" in rows["bronze/readings"]["kept"]
    assert iot("status", "--json").json["offsets"]["expired"] == 1
    assert f"bronze/readings: dates before {DAY} are closed" in iot("maintain", "--dry-run", **kept).out
    for table, why in (("silver/readings", "is replaced date by date"), ("registry/metrics", "has no dates")):
        wrong = iot("maintain", "--table", table, "--date", DAY.isoformat())
        assert wrong.code == 2 and f"{table} {why}" in wrong.err
        assert "Dates are merged in: bronze/readings, bronze/quarantine" in wrong.err and "registry/devices" not in wrong.err
    wrong = iot("maintain", "--date", "2026-03-01", "--from", "2026-03-01")
    assert wrong.code == 2 and "say the same thing twice" in wrong.err
    assert iot("maintain", IOT_KEEP_SILVER_DAYS="3").code == 2
