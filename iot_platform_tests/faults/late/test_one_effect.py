"""Whatever is done twice or at once has one effect. Without Kafka and Spark: a broken rule is seen within seconds."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.failpoints import Armed, parse
from iot_platform.ingest import sink
from iot_platform.lake import Lake
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform_tests.faults.late.compare import assert_balanced
from iot_platform_tests.faults.late.lakes import Scene
from iot_platform_tests.faults.late.landing import LocalStream
from iot_platform_tests.faults.late.machine import killed_at

PATIENCE_SECONDS = 60


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    engine = DuckDBEngine(settings)
    yield Scene(Lake(settings), engine)
    engine.close()


def offsets(lake: Lake) -> list[tuple[str, int, int, str]]:
    names = ["topic", "kafka_partition", "kafka_offset", "metric"]
    rows = lake.snapshot("bronze/readings").delta.to_pyarrow_table(columns=names).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def test_a_batch_that_two_streams_land_at_once_is_there_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The zombie: it wrote its files, slept, and wakes up when another has landed the same batch."""
    gate = tmp_path / "wake"
    scene.land(scene.fleet.now)
    scene.fleet.send([scene.fleet.said[0]] * 3, random.Random(1))
    monkeypatch.setattr(sink, "reach", Armed(parse(f"ingest.before_commits=hold:{gate}")))
    sleeper = LocalStream(Lake(scene.lake.settings), scene.fleet.log, lambda: scene.fleet.now)
    thread = threading.Thread(target=sleeper.drain, daemon=True)
    thread.start()
    assert wait_until(Path(f"{gate}.reached").exists, PATIENCE_SECONDS)
    scene.stream.drain()
    gate.touch()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert offsets(scene.lake) == sorted({one.key for one in scene.stream.taken})


def test_what_nobody_landed_when_the_checkpoint_was_lost_is_landed_then(scene: Scene) -> None:
    """The tables say where to go on, not the broker: judged by what was sent: a stream never knows what it skipped."""
    scene.land(scene.fleet.now)
    scene.fleet.send([scene.fleet.said[0]] * 3, random.Random(1))
    with killed_at("ingest.before_commits") as died:
        scene.stream.drain()
    assert died
    scene.stream.lose_checkpoint()
    scene.land(scene.fleet.now)
    scene.counted().assert_exact()
    assert scene.counted().messages == 5
    assert_balanced(scene.lake)


def test_no_version_of_a_table_lacks_a_date_that_is_made_again(scene: Scene) -> None:
    """A reader may open any version, and finds each date before or after its replacement, never without."""
    day = scene.fleet.now.date()
    scene.land(*(scene.fleet.now - timedelta(minutes=n) for n in range(5)))
    scene.settle()
    tables = ["silver/readings", "gold/sensor_windows", "gold/daily_summary"]
    first = {table: scene.lake.snapshot(table).version for table in tables}
    scene.land(scene.fleet.now)
    scene.settle()
    for table in tables:
        newest = scene.lake.snapshot(table).version
        assert newest > first[table]
        for version in range(first[table], newest + 1):
            seen = scene.lake.snapshot(table, version)
            assert seen.rows_by_date.get(day), f"{table} version {version} has no row of {day}"
            assert seen.recorded_level(day)
    scene.assert_recomputed()
