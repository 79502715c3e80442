"""The Spark engine on real Delta tables: pinned reads, one date replaced with its level, refusal of older inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.protocol import InputFiles
from iot_platform.engines.spark import SparkEngine
from iot_platform.errors import LakeError
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.engines.lakes import BEFORE, SILVER, WINDOWS, fill_bronze, fill_silver, of, pinned, put
from iot_platform_tests.transforms.rows import DAY, arrow, at, silver, views

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.integration


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


@pytest.fixture
def engine(settings: Settings, spark: SparkSession) -> SparkEngine:
    return SparkEngine(settings, spark)


def test_spark_replaces_one_date_with_its_level_as_the_lake_does(engine: SparkEngine, lake: Lake) -> None:
    fill_bronze(lake)
    put(lake, "silver/readings", BEFORE, [silver(event_time=at(5, days=-1))], level=3)
    lake_files = lake.snapshot("silver/readings").files([BEFORE])
    inputs = pinned(lake, SILVER)
    with engine.compute(SILVER, inputs, of()) as derived:
        assert derived.rows == 10
        assert derived.duplicate_keys(SILVER.contract.keys).num_rows == 0
        version = derived.commit(lake, "silver/readings", DAY, level=7, inputs={"bronze/readings": 2}, metadata={"x": 1})
        with pytest.raises(LakeError, match="newer inputs"):
            derived.commit(lake, "silver/readings", DAY, level=7, inputs={})
    made = lake.snapshot("silver/readings")
    assert (made.version, made.recorded_level(DAY), made.rows_by_date) == (version, 7, {BEFORE: 1, DAY: 10})
    assert made.files([BEFORE]) == lake_files, "neighbours are untouched"
    note = json.loads(made.delta.history(1)[0]["userMetadata"])
    assert note == {
        "table": "silver/readings", "date": DAY.isoformat(), "level": 7, "inputs": {"bronze/readings": 2}, "x": 1,
    }  # fmt: skip

    embedded = DuckDBEngine(lake.settings)
    with embedded.compute(SILVER, inputs, of()) as other:
        assert other.batches().read_all().num_rows == 10
        other.commit(lake, "silver/readings", DAY, level=8, inputs={})
    with embedded.compute(WINDOWS, pinned(lake, WINDOWS), of()) as windows:
        assert windows.rows == 1, "what Spark wrote and DuckDB replaced is one table"
    embedded.close()


def test_spark_reads_the_version_and_the_rows_it_was_given(engine: SparkEngine, lake: Lake) -> None:
    fill_silver(lake)
    inputs = pinned(lake, WINDOWS)
    put(lake, "silver/readings", DAY, [silver()], level=2)
    with engine.compute(WINDOWS, inputs, of()) as derived:
        made = derived.batches().read_all()
        assert made.schema == arrow("gold/sensor_windows", []).schema
        assert sum(row["readings"] for row in made.to_pylist()) == 25
    fill_bronze(lake)
    first = {
        "registry_first_readings": InputFiles(lake.snapshot("registry/first_readings")),
        "bronze_readings": InputFiles(lake.snapshot("bronze/readings"), None, after_seq=1),
    }
    with engine.compute(TRANSFORMS["registry/first_readings"], first, of(None)) as derived:
        assert derived.rows == 25
        derived.commit(lake, "registry/first_readings", None, level=2, inputs={})
    assert lake.snapshot("registry/first_readings").recorded_level(None) == 2


def test_many_rows_reach_python_in_chunks(engine: SparkEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iot_platform.engines.spark.CHUNK_ROWS", 7)
    rows = [silver(device_id=f"d{n}") for n in range(20)]
    with engine.compute(WINDOWS, views("gold/sensor_windows", {"silver_readings": rows}), of()) as derived:
        made = derived.batches().read_all().to_pylist()
    assert sorted(row["device_id"] for row in made) == sorted(f"d{n}" for n in range(20))


def test_a_damaged_file_is_one_clear_error(engine: SparkEngine, lake: Lake) -> None:
    fill_silver(lake)
    inputs = pinned(lake, WINDOWS)
    Path(lake.snapshot("silver/readings").files([DAY])[0]).write_bytes(b"PAR1 not a file PAR1")
    with pytest.raises(LakeError, match=r"gold/sensor_windows: Spark cannot read an input"):
        engine.compute(WINDOWS, inputs, of())


def test_rows_of_another_date_are_refused_and_change_nothing(engine: SparkEngine, lake: Lake) -> None:
    fill_silver(lake)
    with (
        engine.compute(WINDOWS, pinned(lake, WINDOWS), of()) as derived,
        pytest.raises(LakeError, match=r"gold/sensor_windows: Spark cannot write"),
    ):
        derived.commit(lake, "gold/sensor_windows", BEFORE, level=1, inputs={})
    assert lake.snapshot("gold/sensor_windows").rows == 0


def test_a_session_that_runs_already_stays_its_owner_s(settings: Settings, engine: SparkEngine, spark: SparkSession) -> None:
    with SparkEngine(settings).compute(WINDOWS, views("gold/sensor_windows", {}), of()) as derived:
        assert derived.rows == 0
    for _ in range(2):
        engine.close()
    assert spark.range(1).count() == 1
