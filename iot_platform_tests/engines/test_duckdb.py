"""The embedded engine on real Delta tables: what it reads, in how much memory, and what it commits."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.protocol import InputFiles
from iot_platform.errors import LakeError, PlatformError
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.conftest import MakeSettings
from iot_platform_tests.engines.lakes import BEFORE, SILVER, WINDOWS, fill_bronze, fill_silver, of, pinned, put
from iot_platform_tests.transforms.rows import DAY, Row, arrow, at, bronze, event, silver, views


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


def rows(engine: DuckDBEngine, lake: Lake, name: str) -> list[Row]:
    with engine.compute(TRANSFORMS[name], pinned(lake, TRANSFORMS[name]), of()) as derived:
        return derived.batches().read_all().to_pylist()


def test_a_date_is_computed_from_its_look_back_and_committed_alone(engine: DuckDBEngine, lake: Lake) -> None:
    fill_bronze(lake)
    put(lake, "silver/readings", BEFORE, [silver(event_time=at(5, days=-1))], level=3)
    before = lake.snapshot("silver/readings").files([BEFORE])
    with engine.compute(SILVER, pinned(lake, SILVER), of()) as derived:
        assert derived.rows == 10 and derived.seconds > 0
        assert derived.duplicate_keys(SILVER.contract.keys).num_rows == 0
        version = derived.commit(lake, "silver/readings", DAY, level=7, inputs={"bronze/readings": 2}, metadata={"x": 1})
    made = lake.snapshot("silver/readings")
    assert (made.version, made.recorded_level(DAY), made.rows_by_date) == (version, 7, {BEFORE: 1, DAY: 10})
    assert made.files([BEFORE]) == before, "neighbours are untouched"
    table = made.delta.to_pyarrow_table(filters=[("event_date", "=", DAY)])
    assert set(table["recent_count"].to_pylist()) == set(range(40, 50))


def test_a_commit_from_older_inputs_is_refused(engine: DuckDBEngine, lake: Lake) -> None:
    fill_bronze(lake)
    put(lake, "silver/readings", DAY, [silver()], level=9)
    with (
        engine.compute(SILVER, pinned(lake, SILVER), of()) as derived,
        pytest.raises(LakeError, match="newer inputs"),
    ):
        derived.commit(lake, "silver/readings", DAY, level=8, inputs={})
    assert lake.snapshot("silver/readings").rows == 1


def test_rows_of_another_date_are_refused_and_change_nothing(engine: DuckDBEngine, lake: Lake) -> None:
    fill_silver(lake)
    with engine.compute(WINDOWS, pinned(lake, WINDOWS), of()) as derived, pytest.raises(LakeError):
        derived.commit(lake, "gold/sensor_windows", BEFORE, level=1, inputs={})
    assert lake.snapshot("gold/sensor_windows").rows == 0


def test_rows_come_sorted_typed_and_as_often_as_asked(engine: DuckDBEngine, lake: Lake) -> None:
    shuffled = [bronze(device_id=f"d{n % 3}", event_time=at((n * 7) % 50)) for n in range(50)]
    put(lake, "bronze/readings", DAY, shuffled, level=1)
    with engine.compute(SILVER, pinned(lake, SILVER), of()) as derived:
        first, second = derived.batches().read_all(), derived.batches().read_all()
    assert first == second and first.schema == arrow("silver/readings", []).schema
    order = [(row["device_id"], row["event_time"]) for row in first.to_pylist()]
    assert order == sorted(order) and len(order) == 50


def test_a_pinned_version_stays_what_it_was(engine: DuckDBEngine, lake: Lake) -> None:
    fill_silver(lake)
    inputs = pinned(lake, WINDOWS)
    put(lake, "silver/readings", DAY, [silver()], level=2)
    with engine.compute(WINDOWS, inputs, of()) as derived:
        assert sum(row["readings"] for row in derived.batches().read_all().to_pylist()) == 25


def test_a_date_without_files_is_empty(engine: DuckDBEngine, lake: Lake) -> None:
    assert rows(engine, lake, "silver/readings") == []
    assert rows(engine, lake, "gold/sensor_windows") == []


def test_only_rows_after_a_sequence_are_read(engine: DuckDBEngine, lake: Lake) -> None:
    fill_bronze(lake)
    inputs = {
        "registry_first_readings": InputFiles(lake.snapshot("registry/first_readings")),
        "bronze_readings": InputFiles(lake.snapshot("bronze/readings"), None, after_seq=1),
    }
    with engine.compute(TRANSFORMS["registry/first_readings"], inputs, of(None)) as derived:
        made = derived.batches().read_all().to_pylist()
    assert made[0]["first_event_time"] == at(20, days=-1) and len(made) == 25


def test_files_older_than_a_column_give_nulls(engine: DuckDBEngine, lake: Lake) -> None:
    full = arrow("bronze/readings", [bronze(value=1.0, site="s"), bronze(value=2.0, site="s")])
    old = full.slice(0, 1).drop_columns(["site", "firmware"])
    path = lake.path("bronze/readings")
    write_deltalake(path, old, partition_by=["event_date"])
    write_deltalake(path, full.slice(1), mode="append", schema_mode="merge")
    made = rows(engine, lake, "silver/readings")
    assert [(row["value"], row["site"], row["firmware"]) for row in made] == [(1.0, None, None), (2.0, "s", None)]


def test_only_old_files_give_nulls_too(engine: DuckDBEngine, lake: Lake) -> None:
    old = arrow("bronze/readings", [bronze(value=1.0)]).drop_columns(["site"])
    write_deltalake(lake.path("bronze/readings"), old, partition_by=["event_date"])
    assert [row["site"] for row in rows(engine, lake, "silver/readings")] == [None]


@pytest.mark.parametrize("folder", ["o'clock", "ü c", "event_date=1999-01-01"])
def test_the_home_may_have_any_name(make_settings: MakeSettings, tmp_path: Path, folder: str) -> None:
    chosen = make_settings(home=tmp_path / folder)
    lake, engine = Lake(chosen), DuckDBEngine(chosen)
    fill_bronze(lake)
    assert len(rows(engine, lake, "silver/readings")) == 10
    engine.close()


def test_duplicate_keys_are_told_with_a_sample(engine: DuckDBEngine) -> None:
    twice = [silver(device_id="a", metric=metric) for metric in ("x", "x", "y")]
    with engine.compute(WINDOWS, views("gold/sensor_windows", {"silver_readings": twice}), of()) as derived:
        assert derived.duplicate_keys(["device_id"]).to_pylist() == [{"device_id": "a", "count": 2}]
        assert derived.duplicate_keys(["device_id", "metric"]).num_rows == 0


@pytest.mark.parametrize("name", ["gold/sensor_windows", "gold/daily_summary", "gold/duration_p95"])
def test_slices_give_what_one_pass_gives(
    engine: DuckDBEngine, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    many = [silver(device_id=f"d{n % 13}", value=float(n), event_time=at(n)) for n in range(400)]
    many += [event(float(n), f"k{n % 3}", event_time=at(n)) for n in range(1600)]
    inputs = views(name, {"silver_readings": many})
    with engine.compute(TRANSFORMS[name], inputs, of()) as derived:
        whole = derived.batches().read_all().to_pylist()
    monkeypatch.setattr("iot_platform.engines.duckdb.BYTES_PER_READING", 1_000_000)
    small = DuckDBEngine(make_settings(duckdb_memory="1GB"))
    with small.compute(TRANSFORMS[name], inputs, of()) as derived:
        sliced = derived.batches().read_all().to_pylist()
    small.close()
    key = TRANSFORMS[name].contract.sort
    assert whole and sorted(sliced, key=lambda row: [row[k] for k in key]) == whole


def test_a_damaged_file_is_one_clear_error(engine: DuckDBEngine, lake: Lake) -> None:
    fill_bronze(lake)
    inputs = pinned(lake, SILVER)
    Path(lake.snapshot("bronze/readings").files([DAY])[0]).write_bytes(b"PAR1 not a file PAR1")
    with pytest.raises(LakeError, match=r"silver/readings: DuckDB cannot read an input"):
        engine.compute(SILVER, inputs, of())


def test_a_missing_file_is_one_clear_error(engine: DuckDBEngine, lake: Lake) -> None:
    fill_bronze(lake)
    inputs = pinned(lake, SILVER)
    Path(lake.snapshot("bronze/readings").files([DAY])[0]).unlink()
    with pytest.raises(LakeError, match=r"silver/readings: DuckDB cannot read an input"):
        engine.compute(SILVER, inputs, of())


def test_too_little_memory_is_one_clear_error(make_settings: MakeSettings) -> None:
    engine = DuckDBEngine(make_settings(duckdb_memory="8MB", duckdb_threads=1))
    many = [event(float(n), event_time=at(n)) for n in range(2_000)]
    table = pa.concat_tables([arrow("silver/readings", many)] * 1_000)
    inputs = dict(views("gold/duration_p95", {})) | {"silver_readings": table}
    with pytest.raises(PlatformError, match="IOT_DUCKDB_MEMORY"):
        engine.compute(TRANSFORMS["gold/duration_p95"], inputs, of())
    engine.close()


def test_wrong_memory_is_the_user_s_mistake(make_settings: MakeSettings) -> None:
    with pytest.raises(PlatformError, match="IOT_DUCKDB_MEMORY"):
        DuckDBEngine(make_settings(duckdb_memory="lots")).compute(WINDOWS, views("gold/sensor_windows", {}), of())


def test_a_home_that_cannot_be_written_is_one_clear_error(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="IOT_HOME"):
        DuckDBEngine(make_settings(home=tmp_path / "file")).compute(WINDOWS, views("gold/sensor_windows", {}), of())


def test_spill_folders_of_the_dead_are_removed_and_one_s_own_goes_at_the_end(make_settings: MakeSettings) -> None:
    chosen = make_settings()
    dead, alive = chosen.home / "tmp" / "duckdb-999999999-x", chosen.home / "tmp" / f"duckdb-{os.getpid()}-x"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
    engine = DuckDBEngine(chosen)
    engine.compute(WINDOWS, views("gold/sensor_windows", {}), of()).__exit__(None, None, None)
    engine.close()
    engine.close()
    assert [folder.name for folder in (chosen.home / "tmp").iterdir()] == [alive.name]


def test_committed_times_are_delta_packed_and_readable_by_anyone(engine: DuckDBEngine, lake: Lake) -> None:
    fill_bronze(lake)
    with engine.compute(SILVER, pinned(lake, SILVER), of()) as derived:
        derived.commit(lake, "silver/readings", DAY, level=1, inputs={})
    (file,) = lake.snapshot("silver/readings").files([DAY])
    metadata = pq.ParquetFile(file).metadata
    columns = {metadata.schema.column(n).name: metadata.row_group(0).column(n) for n in range(metadata.num_columns)}
    assert columns["event_time"].compression == "ZSTD" and "DELTA_BINARY_PACKED" in columns["event_time"].encodings
