"""Row 11: a field added, dropped, retyped, and two versions in one topic: nothing is lost, and old rows go on being read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iot_platform.contracts import promoted
from iot_platform.contracts.promoted import Kept, kept
from iot_platform.contracts.promoted import promoted as promoted_fields
from iot_platform.contracts.rebuild import rebuild_message
from iot_platform.contracts.wire import CONTRACTS, SENSOR_READING, Json, Older, WireField
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.protocol import InputFiles
from iot_platform.lake import Lake
from iot_platform.lake.ledger import offset_ledger
from iot_platform.lake.query import select
from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.contracts.messages import TOPIC_OF, message
from iot_platform_tests.faults.places import count, offsets_of
from iot_platform_tests.faults.record import FaultRecord
from iot_platform_tests.ingest.landed import Landed
from iot_platform_tests.ingest.test_redrive import DAY, LATER, rows

SENSOR = "sensor_reading"


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


def told(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    return select(lake, sql)[1]


def sensor(number: int, *without: str, **changes: Any) -> dict[str, Any]:
    return message(SENSOR, *without, sensor_id=f"s{number}", **changes)


def record(fault_record: FaultRecord, lake: Lake, fault: str, *, injections: int, messages: int) -> None:
    counted = count(lake, offsets_of(TOPIC_OF[SENSOR], messages))
    fault_record(fault=fault, injections=injections, **counted.counts)
    counted.assert_exact()


def test_a_field_that_nobody_declared_is_kept_and_one_that_is_dropped_is_missed_only_if_required(
    lake: Lake, fault_record: FaultRecord
) -> None:
    added, dropped = sensor(1, battery=87.5, note={"by": ["hand"]}), sensor(2, "unit", "location", "status")
    sent = [sensor(0), added, dropped, sensor(3, "value")]
    Landed(lake).land(sent)
    landed = {row["device_id"]: row for row in rows(lake, "bronze/readings").iter_rows(named=True)}
    assert json.loads(landed["s1"]["extras"]) == {"battery": 87.5, "note": {"by": ["hand"]}}
    assert [rebuild_message([landed[name]]) for name in ("s0", "s1", "s2")] == sent[:3]
    assert rows(lake, "bronze/quarantine")["reason"].to_list() == ["missing_field"]
    assert offset_ledger(lake).is_balanced
    record(fault_record, lake, "11 field added, dropped", injections=3, messages=len(sent))


def test_a_retyped_field_quarantines_that_message_alone(lake: Lake, fault_record: FaultRecord) -> None:
    Landed(lake).land([sensor(0), sensor(1, status=3), sensor(2, value="21"), sensor(3)])
    assert rows(lake, "bronze/quarantine")["reason"].to_list() == ["wrong_type"] * 2
    assert rows(lake, "bronze/readings")["device_id"].to_list() == ["s0", "s3"]
    record(fault_record, lake, "11 field retyped", injections=2, messages=4)


@pytest.fixture
def two_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 says ``sensor`` instead of ``sensor_id``, and must say its firmware."""
    fields = tuple(
        replace(field, path=("sensor",)) if field.column == "device_id" else field for field in SENSOR_READING.fields
    )
    firmware = WireField(("firmware",), Json.STRING, "firmware", "version of the firmware", required=True)
    second = replace(SENSOR_READING, version=2, fields=(*fields, firmware), earlier=(SENSOR_READING,))
    monkeypatch.setitem(CONTRACTS, SENSOR, second)


def test_two_versions_in_one_topic_are_each_read_by_their_own(
    lake: Lake, two_versions: None, fault_record: FaultRecord
) -> None:
    landed = Landed(lake)
    new = message(SENSOR, "sensor_id", sensor="n1", firmware="2.0")
    landed.land([sensor(0)])  # says no version: made before there was a choice
    landed.land([new, message(SENSOR, "sensor_id", sensor="n2")], headers=[("contract_version", b"2")])
    landed.land([sensor(1), new], headers=[("contract_version", b"1.3")])
    landed.land([sensor(2)], headers=[("contract_version", b"3")])
    found = rows(lake, "bronze/readings").select("device_id", "contract_version", "firmware").rows()
    assert found == [("s0", 1, None), ("n1", 2, "2.0"), ("s1", 1, None)]
    assert rows(lake, "bronze/quarantine").select("reason", "detail").rows() == [
        ("missing_field", "missing: firmware"), ("missing_field", "missing: sensor_id"),
        ("unknown_contract", "sensor_reading version 3 is not declared; declared: 1, 2"),
    ]  # fmt: skip
    rebuilt = [rebuild_message([row]) for row in rows(lake, "bronze/readings").iter_rows(named=True)]
    assert rebuilt == [sensor(0), new, sensor(1)]
    record(fault_record, lake, "11 mixed versions", injections=3, messages=6)


def test_the_schemas_of_all_versions_are_published(two_versions: None) -> None:
    from iot_platform.contracts.publish import published_schemas

    files = published_schemas()
    assert "sensor" in json.loads(files["sensor_reading.v2.json"])["required"]
    assert "sensor_id" in json.loads(files["sensor_reading.v1.json"])["required"]


# One line in the declaration of sensor_reading. Where older rows get their value from is the last word of it.
LINE = '        WireField(("battery",), Json.NUMBER, "battery_pct", "charge of the battery", unit="%"{older}),\n'
AFTER = '        WireField(("status",), Json.STRING, "status", "status the device reports"),\n'
PROGRAM = """
import json, sys
from pathlib import Path
from iot_platform.settings import Settings
import iot_platform
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date
from iot_platform.ingest.redrive import redrive
from iot_platform.lake import Lake
from iot_platform.lake.quarantine import Chosen
from iot_platform.lake.maintain import maintain
from iot_platform.lake.query import select
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.faults.test_evolution import sensor
from iot_platform_tests.ingest.landed import Landed
from iot_platform_tests.ingest.test_redrive import DAY, LATER

assert Path(iot_platform.__file__).is_relative_to(sys.argv[1])
lake = Lake(Settings(home=sys.argv[2], _env_file=None))
battery = "select device_id, battery_pct, extras from bronze_readings order by 1"
before = select(lake, battery)[1], lake.snapshot("bronze/readings").version
landed = Landed(lake)
landed._next["iot.sensor-readings", 0] = 3
landed.batch = 0
landed.land([sensor(3, battery=5), sensor(4, battery="low"), sensor(5, battery=None), sensor(6)])
engine = DuckDBEngine(lake.settings)
made = materialize_date(lake, engine, TRANSFORMS["silver/readings"], DAY, now=LATER)
engine.close()
maintain(lake, LATER)
bronze = lake.snapshot("bronze/readings")
print(json.dumps({
    "before": before[0], "after": select(lake, battery)[1], "rows": made.rows,
    "columns": [field.name for field in bronze.delta.schema().fields][-1],
    "files": len(bronze.active), "refused": select(lake, "select reason, detail from bronze_quarantine")[1],
}))
"""


@pytest.mark.parametrize(
    "older", [pytest.param("", marks=pytest.mark.long, id="null"), pytest.param(", older=Older.EXTRAS", id="extras")]
)
def test_one_line_makes_an_unknown_field_a_column(lake: Lake, tmp_path: Path, fault_record: FaultRecord, older: str) -> None:
    landed = Landed(lake)
    landed.land([sensor(0, battery=87.5), sensor(1, battery="full"), sensor(2)])
    files = {file.path for file in lake.snapshot("bronze/readings").active}
    copy = tmp_path / "mended"
    shutil.copytree(PROJECT_ROOT / "iot_platform", copy / "iot_platform", ignore=shutil.ignore_patterns("__pycache__"))
    wire = copy / "iot_platform" / "contracts" / "wire.py"
    text = wire.read_text(encoding="utf-8")
    assert text.count(AFTER) == 1
    wire.write_text(text.replace(AFTER, AFTER + LINE.format(older=older)), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(copy), str(lake.settings.home)], capture_output=True, text=True, check=False,
        cwd=copy, env=os.environ | {"PYTHONPATH": f"{copy}{os.pathsep}{PROJECT_ROOT}"}, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    old = [["s0", 87.5 if older else None, '{"battery":87.5}'], ["s1", None, '{"battery":"full"}'], ["s2", None, None]]
    assert found["before"] == old  # the column is read though the table lacks it, and nothing was committed for that
    new = [["s3", 5.0, None], ["s5", None, '{"$raw":{"battery":null}}'], ["s6", None, None]]
    assert found["after"] == [*old, *new]
    assert found["refused"] == [["wrong_type", "battery: a number is expected, not low"]]
    assert (found["rows"], found["columns"]) == (6, "battery_pct")
    assert files <= {file.path for file in lake.snapshot("bronze/readings").active}  # no old file was written anew

    # The code of before goes on beside it, and leaves the column to those who know it.
    landed._next["iot.sensor-readings", 0] = 7
    landed.batch = 1
    landed.land([sensor(7, battery=1)])
    assert [row[0] for row in told(lake, "select device_id from bronze_readings order by 1")] == [
        "s0", "s1", "s2", "s3", "s5", "s6", "s7",
    ]  # fmt: skip
    assert offset_ledger(lake).is_balanced
    record(fault_record, lake, "11 field promoted to a column", injections=1, messages=8)


@pytest.fixture
def fw_is_firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on sensors' ``fw`` is their firmware, and ``tags.duration`` how long it took, in older rows too."""
    monkeypatch.setattr(
        promoted, "KEPT",
        {"firmware": (Kept(SENSOR, ("fw",), is_text=True),),
         "event_duration_ms": (Kept(SENSOR, ("tags", "duration"), is_text=False),)},
    )  # fmt: skip


OLDER = [{"fw": "1.2"}, {"fw": 3}, {"fw": None}, {}, {"fw": "it's", "tags": {"duration": 12}}, {"tags": {"duration": "12"}},
         {"tags": {"duration": 1.5}}, {"tags": []}]  # fmt: skip
READ = [("1.2", None), (None, None), (None, None), (None, None), ("it's", 12.0), (None, None), (None, 1.5), (None, None)]


def test_a_column_that_is_there_is_filled_from_what_older_rows_kept(lake: Lake, fw_is_firmware: None) -> None:
    Landed(lake).land([sensor(n, **changes) for n, changes in enumerate(OLDER)])
    assert told(lake, "select firmware, event_duration_ms from bronze_readings order by device_id") == READ
    engine = DuckDBEngine(lake.settings)
    materialize_date(lake, engine, TRANSFORMS["silver/readings"], DAY, now=LATER)
    engine.close()
    assert told(lake, "select firmware, event_duration_ms from silver_readings order by device_id") == READ


@pytest.mark.integration
def test_spark_reads_older_rows_the_same(lake: Lake, fw_is_firmware: None, spark: Any) -> None:
    from iot_platform.engines.spark import _promoted
    from iot_platform.engines.spark_files import read_files

    Landed(lake).land([sensor(n, **changes) for n, changes in enumerate(OLDER)])
    inputs = InputFiles(lake.snapshot("bronze/readings"), [DAY])
    frame = _promoted(read_files(spark, inputs), inputs).orderBy("device_id").select("firmware", "event_duration_ms")
    assert [tuple(row) for row in frame.collect()] == READ


def declared(field: WireField, contract: str = SENSOR) -> dict[str, Any]:
    return CONTRACTS | {contract: replace(CONTRACTS[contract], fields=(*CONTRACTS[contract].fields, field))}


def test_a_declaration_says_where_older_rows_get_their_value() -> None:
    field = WireField(("$odd", "fw"), Json.STRING, "firmware", "", older=Older.EXTRAS)
    assert kept(declared(field)) == {"firmware": (Kept(SENSOR, ("$$odd", "fw"), is_text=True),)}
    assert kept(declared(replace(field, older=Older.NULL))) == {}


def test_what_cannot_be_a_column_is_refused_where_it_is_declared() -> None:
    names = ("device_id", "event_time", "metric", "site", "status", "unit", "zone", "firmware", "state", "device_type",
             "event_id", "event_duration_ms")  # fmt: skip
    assert promoted_fields(names) == ()
    with pytest.raises(ValueError, match="leave it in extras"):
        promoted_fields(names, declared(WireField(("labels",), Json.OBJECT, "labels", "")))
    as_number, as_text = WireField(("charge",), Json.NUMBER, "charge", ""), WireField(("c",), Json.STRING, "charge", "")
    both = declared(as_number) | {"device_event": declared(as_text, "device_event")["device_event"]}
    with pytest.raises(ValueError, match="another type"):
        promoted_fields(names, both)
