"""The lake in a bucket of a real S3 server: the same tables as on a disk, read by everything that reads the lake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pydantic import SecretStr

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import TABLES
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date, params
from iot_platform.engines.protocol import InputFiles
from iot_platform.engines.registry import sync_registry
from iot_platform.engines.spark import SparkEngine
from iot_platform.errors import HeldError, InputError, LakeError, PlatformError
from iot_platform.ingest import committed_offsets, drain, end_offsets
from iot_platform.lake import Lake
from iot_platform.lake.ledger import date_ledger, offset_ledger
from iot_platform.lake.levels import Levels, daily_transforms
from iot_platform.lake.query import select
from iot_platform.lake.rollback import release, roll_back
from iot_platform.marts.build import build
from iot_platform.settings import Settings
from iot_platform.status import platform_status
from iot_platform.topics import create_topics
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake
from iot_platform_tests.integration.stream import Stream, now_us, readings_at
from iot_platform_tests.parity.close import differences

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform_tests.conftest import Broker, MakeSettings
    from iot_platform_tests.s3_server import S3Server

pytestmark = [pytest.mark.integration, pytest.mark.untraced]

P95 = "gold/duration_p95"


@pytest.fixture
def on_s3(s3: S3Server, make_settings: MakeSettings) -> Settings:
    """An empty lake in the bucket."""
    return make_settings(**s3.lake())


@pytest.fixture(scope="module")
def made(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Settings]:
    """The same readings landed, and all tables made of two dates: once in the bucket, once on the disk."""
    found: dict[str, Settings] = {}
    for place, chosen in (("s3", s3.lake()), ("disk", {})):
        home = tmp_path_factory.mktemp(f"{place}-home")
        found[place] = Settings(home=home, _env_file=None, **chosen)  # pyright: ignore[reportCallIssue]
        fill_and_make(found[place])
    return found


def fill_and_make(settings: Settings) -> None:
    lake = Lake(settings)
    small = SmallLake(lake)
    small.day(D, 288, metric="temperature")
    repeated = {"event_time": NOW.replace(day=11), "event_id": "again"}
    small.ingest([repeated, repeated, repeated | {"event_id": "hot", "value": 1e9}], refused=[{}])
    small.ingest(
        {"event_time": NOW.replace(day=11) + timedelta(seconds=n), "contract": "device_event", "device_id": "camera",
         "metric": "motion", "device_type": "motion", "event_duration_ms": 100.0 + n % 7, "event_id": f"e{n}"}
        for n in range(500)
    )  # fmt: skip
    engine = DuckDBEngine(settings)
    try:
        sync_registry(lake, engine, now=NOW)
        for transform in daily_transforms():
            levels = Levels(lake)
            for day in (D, D + DAY):
                assert not materialize_date(lake, engine, transform, day, now=NOW, levels=levels).skipped
        assert not any(days for days in Levels(lake).stale([D, D + DAY]).values())
    finally:
        engine.close()


def test_what_is_made_in_a_bucket_is_what_is_made_on_a_disk(made: dict[str, Settings]) -> None:
    lakes = {place: Lake(settings) for place, settings in made.items()}
    for name, contract in TABLES.items():
        # A registry's change is numbered by the time it was found.
        columns = [column for column in contract.column_names if column != "changes"]
        in_bucket, on_disk = (
            lakes[place].snapshot(name).delta.to_pyarrow_table().select(columns).sort_by(
                [(key, "ascending") for key in contract.keys]
            ).to_pylist()
            for place in ("s3", "disk")
        )  # fmt: skip
        assert len(in_bucket) == len(on_disk), name
        for one, other in zip(in_bucket, on_disk, strict=True):
            assert differences(one, other, columns) == [], name
        assert {day: lakes["s3"].snapshot(name).recorded_level(day) for day in (D, D + DAY)} == {
            day: lakes["disk"].snapshot(name).recorded_level(day) for day in (D, D + DAY)
        }
    empty = {name for name in TABLES if not lakes["s3"].snapshot(name).rows}
    assert empty <= {"gold/anomaly_events", "ops/check_results", "ops/erasures", "ops/incidents"}


def test_status_and_ledger_read_the_bucket(made: dict[str, Settings]) -> None:
    status = platform_status(made["s3"])
    assert status["tables"].keys() == platform_status(made["disk"])["tables"].keys()
    assert [line["rejected"] for line in status["ledger"]][:2] == [{}, {"duplicate": 1, "out_of_range": 1}]
    lake = Lake(made["s3"])
    assert all(line.is_balanced for line in date_ledger(lake)) and offset_ledger(lake).is_balanced


def test_the_command_reads_the_bucket_by_the_environment_and_downloads_nothing(
    made: dict[str, Settings], tmp_path: Path
) -> None:
    # A home without AWS's files and without extensions that DuckDB may have fetched before.
    environment = made["s3"].environment() | {"HOME": str(tmp_path)}
    sql = "select event_date, count(*) as n from silver_readings group by all order by all"
    ran = subprocess.run(
        [Path(sys.executable).with_name("iot"), "query", sql, "--json"], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    _, expected = select(Lake(made["disk"]), sql)
    assert [(row["event_date"], row["n"]) for row in json.loads(ran.stdout)] == [(day.isoformat(), n) for day, n in expected]
    assert not (tmp_path / ".duckdb").exists()


def test_the_marts_are_built_from_the_bucket(made: dict[str, Settings]) -> None:
    build(made["s3"])
    # Marts and tables in one question, as analysts ask it.
    (counts,) = select(
        Lake(made["s3"]),
        "select (select count(*) from devices), (select count(*) from registry_devices),"
        " (select count(*) from device_health_daily),"
        " (select count(distinct (device_id, event_date)) from gold_sensor_health),"
        " (select count(*) from duration_p95_weekly)",
    )[1]
    assert counts[0] == counts[1] == 2
    assert counts[2] == counts[3] > 0
    assert counts[4] == 1


def p95_rows(value: float, day: date, together: Barrier | None = None) -> pa.RecordBatchReader:
    row = {"device_type": "motion", "events": 500, "excluded": 1, "mean": value, "std": 1.0, "p95": 4.0}
    row |= {"processed_at": NOW, "pipeline_version": "t", "event_date": day}
    table = pa.Table.from_pylist([row], schema=arrow_schema(TABLES[P95]))

    def batches() -> Iterator[pa.RecordBatch]:
        if together:  # both have looked at the same version by now, and neither has committed
            together.wait(30)
        yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(table.schema, batches())


def test_of_two_writers_of_one_date_in_a_bucket_one_wins(on_s3: Settings) -> None:
    Lake(on_s3).replace(P95, D, p95_rows(0.0, D), level=1, inputs={})
    together = Barrier(2)

    def write(value: float) -> Exception | None:
        try:
            Lake(on_s3).replace(P95, D, p95_rows(value, D, together), level=2, inputs={})
        except LakeError as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(write, (1.0, 2.0)))
    winners = [value for value, error in zip((1.0, 2.0), outcomes, strict=True) if error is None]
    assert len(winners) == 1
    assert "another run wrote this date at the same time" in str(next(error for error in outcomes if error))
    assert [row["mean"] for row in SmallLake(Lake(on_s3)).rows(P95)] == winners
    assert Lake(on_s3).snapshot(P95).recorded_level(D) == 2


def test_neighbouring_dates_in_a_bucket_are_written_at_the_same_time(on_s3: Settings) -> None:
    Lake(on_s3).ensure(P95)
    together = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        done = [
            pool.submit(Lake(on_s3).replace, P95, day, p95_rows(1.0, day, together), level=1, inputs={})
            for day in (D, D + DAY)
        ]
        assert len({one.result() for one in done}) == 2
    assert set(Lake(on_s3).snapshot(P95).rows_by_date) == {D, D + DAY}


def test_a_drain_lands_in_the_bucket_exactly_once(
    kafka: Broker, spark: SparkSession, s3: S3Server, make_settings: MakeSettings, topics_file: Path
) -> None:
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file, **s3.lake())
    create_topics(settings)
    stream = Stream(settings)
    stream.send([*readings_at(*(now_us() - n * 1_000_000 for n in range(50))), b"{"])
    result = drain(settings, spark)
    assert (result.messages, result.readings, result.quarantined) == (51, 50, 1)
    assert committed_offsets(settings) == end_offsets(settings)
    lake = Lake(settings)
    names, rows = select(lake, "select count(*), count(distinct kafka_offset), max(value) from bronze_readings")
    assert (len(names), rows) == (3, [(50, 50, 1.5)])
    assert select(lake, "select reason, kafka_offset from bronze_quarantine")[1] == [("not_json", 50)]
    assert offset_ledger(lake).is_balanced
    stream.send(readings_at(now_us()))
    assert drain(settings, spark).readings == 1
    assert drain(settings, spark).batches == 0
    assert lake.snapshot("bronze/readings").rows == 51
    assert s3.secret_access_key not in json.dumps(lake.snapshot("bronze/readings").delta.history())


def test_spark_without_a_file_system_for_the_bucket_says_so(on_s3: Settings, spark: SparkSession) -> None:
    lake = Lake(on_s3)
    SmallLake(lake).day(D)
    engine = SparkEngine(on_s3, spark)
    with pytest.raises(InputError, match="IOT_ENGINE=spark needs a lake on a file system that Spark reaches.* s3://"):
        sync_registry(lake, engine, now=NOW)


def test_a_file_that_is_gone_from_the_bucket_is_one_line(on_s3: Settings, s3: S3Server) -> None:
    lake = Lake(on_s3)
    SmallLake(lake).day(D)
    (file,) = lake.snapshot("bronze/readings").files()
    (s3.bucket.parent / file.removeprefix("s3://")).unlink()
    with pytest.raises(LakeError) as raised:
        select(lake, "select count(distinct event_id) from bronze_readings")
    assert "\n" not in str(raised.value)
    engine = DuckDBEngine(on_s3)
    with pytest.raises(LakeError) as raised:
        sync_registry(lake, engine, now=NOW)
    engine.close()
    assert "\n" not in str(raised.value)


def test_a_read_that_the_server_refuses_is_one_line(on_s3: Settings) -> None:
    lake = Lake(on_s3)
    SmallLake(lake).day(D)
    snapshot = lake.snapshot("bronze/readings")
    refused = on_s3.model_copy(update={"aws_secret_access_key": SecretStr("nobody's")})
    engine = DuckDBEngine(refused)
    transform = TRANSFORMS["registry/first_readings"]
    inputs = {"bronze_readings": InputFiles(snapshot), "registry_first_readings": InputFiles(lake.snapshot(transform.table))}
    with pytest.raises(LakeError, match="AWS Error ACCESS_DENIED") as raised:
        engine.compute(transform, inputs, params(None, NOW))
    engine.close()
    assert "\n" not in str(raised.value) and "Traceback" not in str(raised.value)


@pytest.mark.parametrize("wrong", [{"aws_secret_access_key": "nobody's"}, {"aws_endpoint_url": "http://127.0.0.1:9"}])
def test_wrong_keys_or_no_server_are_one_line_that_shows_no_key(
    s3: S3Server, make_settings: MakeSettings, wrong: dict[str, str]
) -> None:
    settings = make_settings(**(s3.lake() | wrong))
    with pytest.raises(PlatformError) as raised:
        Lake(settings).snapshot(P95)
    told = str(raised.value)
    assert "\n" not in told and "nobody's" not in told and s3.secret_access_key not in told


def test_a_date_in_a_bucket_goes_back_and_is_held(on_s3: Settings) -> None:
    lake = Lake(on_s3)
    schema = arrow_schema(TABLES[P95])
    for level, day in ((1, D), (1, D + DAY), (2, D)):
        row = {"device_type": f"level {level}", "event_date": day, "processed_at": NOW}
        lake.replace(P95, day, pa.Table.from_pylist([row], schema=schema).to_reader(), level=level, inputs={})
    done = roll_back(lake, P95, D)
    assert (done.comparison.added, done.comparison.removed) == (1, 1)
    kept = lake.snapshot(P95).delta.to_pyarrow_table().select(["event_date", "device_type"]).to_pylist()
    assert {row["event_date"]: row["device_type"] for row in kept} == {D: "level 1", D + DAY: "level 1"}
    assert lake.snapshot(P95).held_days == (D,) and platform_status(on_s3)["held"] == {P95: [D.isoformat()]}
    with pytest.raises(HeldError):
        lake.replace(P95, D, pa.Table.from_pylist([], schema=schema).to_reader(), level=99, inputs={})
    filesystem, _ = lake.storage.filesystem()
    filesystem.delete_file(lake.snapshot(P95, done.undone.version).files([D])[0].removeprefix("s3://"))
    with pytest.raises(LakeError, match=f"The oldest version possible is {done.restored.version}"):
        roll_back(lake, P95, D, done.undone.version)
    release(lake, P95, D)
    assert not Lake(on_s3).snapshot(P95).held_days
