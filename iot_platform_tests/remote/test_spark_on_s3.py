"""Spark as a job runs it, on a lake in a bucket of a real S3 server: its rows are DuckDB's, and no commit is lost.

The program is started by a real spark-submit, with the jars and options that docs/cluster.md names for a Spark that has no
file system for s3:// of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import TABLES
from iot_platform.engines import session, spark_files
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.spark_files import DateWriter
from iot_platform.errors import LakeError
from iot_platform.lake import Lake
from iot_platform.lake.data_files import DataFile, replace_by_files
from iot_platform.lake.query import select
from iot_platform.lake.snapshot import Snapshot
from iot_platform.lake.storage import Storage
from iot_platform.local.jars import jar_files
from iot_platform.local.java import java_home
from iot_platform.remote import main as program
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake
from iot_platform_tests.parity.close import differences

if TYPE_CHECKING:
    from iot_platform_tests.conftest import MakeSettings
    from iot_platform_tests.s3_server import S3Server

pytestmark = pytest.mark.integration

SILVER, P95 = "silver/readings", "gold/duration_p95"


@pytest.fixture
def on_s3(s3: S3Server, make_settings: MakeSettings) -> Settings:
    return make_settings(**s3.lake(), engine="spark", spark_master="local[2]")


def submit(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program under spark-submit, with the settings as its environment."""
    session.prepare_launch(settings)
    options = session.s3a_options(Storage.of(settings)) | {
        "spark.jars": ",".join(str(jar) for jar in jar_files(settings, "s3a")),
        "spark.driver.extraJavaOptions": session.QUICK_START,
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    environment = settings.model_copy(update={"spark_master": "submitted"}).environment()
    environment |= {"JAVA_HOME": str(java_home(settings)), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    # Spark hands the keys of its environment to Hadoop's client.
    environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    conf = [word for name, value in options.items() for word in ("--conf", f"{name}={value}")]
    return subprocess.run(
        [Path(sys.executable).with_name("spark-submit"), "--master", "local[2]", *conf, program.__file__, *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def rows(lake: Lake, table: str) -> list[dict[str, object]]:
    return sorted(SmallLake(lake).rows(table), key=lambda row: tuple(str(row[key]) for key in TABLES[table].keys))


def test_spark_in_a_bucket_makes_what_duckdb_makes_on_a_disk(on_s3: Settings, make_settings: MakeSettings) -> None:
    on_disk = make_settings()
    for settings in (on_s3, on_disk):
        small = SmallLake(Lake(settings))
        small.day(D, 200, metric="temperature")
        small.ingest([{"event_time": NOW.replace(day=11), "event_id": "a", "value": float(n)} for n in range(3)])
    ran = submit(
        on_s3, "--table", SILVER, "--dates", f"{D}..{D + DAY}", "--now", NOW.isoformat(),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [(one["date"], one["made"]["rows"], one["made"]["engine"]) for one in told] == [
        (D.isoformat(), 200, "spark"), ((D + DAY).isoformat(), 1, "spark"),
    ]  # fmt: skip
    lake, other = Lake(on_s3), Lake(on_disk)
    engine = DuckDBEngine(on_disk)
    for day in (D, D + DAY):
        materialize_date(other, engine, TRANSFORMS[SILVER], day, now=NOW)
    engine.close()
    expected = rows(other, SILVER)
    found = rows(lake, SILVER)
    assert len(found) == len(expected) == 201
    for one, two in zip(found, expected, strict=True):
        assert differences(one, two, list(TABLES[SILVER].column_names)) == []
    for day in (D, D + DAY):
        assert lake.snapshot(SILVER).recorded_level(day) == other.snapshot(SILVER).recorded_level(day)
    _, counted = select(lake, "select event_date, count(*) from silver_readings group by all order by all")
    assert counted == [(D, 200), (D + DAY, 1)]
    assert on_s3.aws_secret_access_key.get_secret_value() not in ran.stdout + ran.stderr


class Racing(Lake):
    """A lake whose writers have all looked at the same version before the first of them commits."""

    def __init__(self, settings: Settings, together: Barrier) -> None:
        super().__init__(settings)
        self.together: Barrier | None = together

    def writable(self, table: str) -> Snapshot:
        snapshot = super().writable(table)
        if self.together:
            together, self.together = self.together, None
            together.wait(60)
        return snapshot


def p95_files(settings: Settings, mean: float, day: date) -> list[DataFile]:
    """A file of one row, as a worker writes it."""
    row = {"device_type": "motion", "events": 500, "excluded": 1, "mean": mean, "std": 1.0, "p95": 4.0}
    row |= {"processed_at": NOW, "pipeline_version": "t", "event_date": day}
    batch = pa.RecordBatch.from_pylist([row], schema=arrow_schema(TABLES[P95]))
    writer = DateWriter(Storage.of(settings), TABLES[P95], day)
    (written,) = [line for one in writer([batch]) for line in one.to_pylist()]
    return [DataFile(P95, day=day.isoformat(), **written)]


@contextmanager
def racing(settings: Settings, *writers: tuple[float, date, int]) -> Iterator[list[Exception | None]]:
    """Each writer: a value, its date, its level. What each met."""
    together = Barrier(len(writers))

    def write(writer: tuple[float, date, int]) -> Exception | None:
        mean, day, level = writer
        try:
            replace_by_files(
                Racing(settings, together), P95, day, p95_files(settings, mean, day), level=level, inputs={}
            )
        except LakeError as error:
            return error
        return None

    with ThreadPoolExecutor(len(writers)) as pool:
        yield list(pool.map(write, writers))


@pytest.fixture(params=["s3", "disk"])
def place(request: pytest.FixtureRequest, s3: S3Server, make_settings: MakeSettings) -> Settings:
    settings = make_settings(**(s3.lake() if request.param == "s3" else {}))
    Lake(settings).ensure(P95)
    return settings


def test_of_two_committers_of_the_same_inputs_one_wins_and_the_other_is_told(place: Settings) -> None:
    with racing(place, (1.0, D, 5), (2.0, D, 5)) as met:
        assert sorted(error is None for error in met) == [False, True]
    assert "made meanwhile from newer inputs (level 5 >= 5)" in str(next(error for error in met if error))
    ((made,),) = select(Lake(place), "select mean from gold_duration_p95")[1]
    assert made == (1.0, 2.0)[met.index(None)]


def test_of_two_committers_the_newer_inputs_stand_whoever_is_faster(place: Settings) -> None:
    for level in (5, 10, 15):
        with racing(place, (level + 1.0, D, level + 1), (float(level), D, level)) as met:
            assert met[0] is None
        assert select(Lake(place), "select mean from gold_duration_p95")[1] == [(level + 1.0,)]
        assert Lake(place).snapshot(P95).recorded_level(D) == level + 1


def test_committers_of_neighbouring_dates_lose_nothing(place: Settings) -> None:
    days = [D + DAY * number for number in range(4)]
    with racing(place, *((float(day.day), day, 3) for day in days)) as met:
        assert met == [None] * 4
    made = select(Lake(place), "select event_date, mean from gold_duration_p95 order by 1")[1]
    assert made == [(day, float(day.day)) for day in days]


def test_a_worker_writes_what_the_log_says(place: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_files, "GROUP_ROWS", 2)
    row = {"device_type": "motion", "events": 500, "mean": 1.0, "processed_at": NOW, "event_date": D}
    batches = [
        pa.RecordBatch.from_pylist([row | {"device_type": f"{one}{n}"} for n in range(2)], schema=arrow_schema(TABLES[P95]))
        for one in "abc"
    ]
    writer = DateWriter(Storage.of(place), TABLES[P95], D)
    (written,) = [line for one in writer(batches) for line in one.to_pylist()]
    assert json.loads(written["stats"])["numRecords"] == 6
    lake = Lake(place)
    replace_by_files(lake, P95, D, [DataFile(P95, day=D.isoformat(), **written)], level=1, inputs={})
    assert lake.snapshot(P95).rows_by_date == {D: 6}
    assert select(lake, "select count(distinct device_type) from gold_duration_p95")[1] == [(6,)]
    assert list(writer([])) == []
    with pytest.raises(ValueError, match="rows of another date"):
        list(DateWriter(Storage.of(place), TABLES[P95], D + DAY)(batches))


def test_keys_are_no_option_of_spark(on_s3: Settings) -> None:
    options = session.spark_options(on_s3)
    assert on_s3.aws_secret_access_key.get_secret_value() not in json.dumps(options)
    assert options["spark.hadoop.fs.s3.impl"].endswith("S3AFileSystem")
    provider = options["spark.hadoop.fs.s3a.aws.credentials.provider"]
    assert provider == "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
    assert "hadoop-aws" in options["spark.jars"]
    duckdb = on_s3.model_copy(update={"engine": "duckdb"})
    assert "hadoop-aws" not in session.spark_options(duckdb)["spark.jars"]


def test_hadoops_client_is_of_the_hadoop_that_spark_brings(settings: Settings) -> None:
    import pyspark

    (hadoop,) = Path(pyspark.__file__).parent.glob("jars/hadoop-client-api-*.jar")
    assert f"hadoop-aws-{hadoop.stem.removeprefix('hadoop-client-api-')}.jar" in {
        jar.name for jar in session.group_files(settings, "s3a")
    }
