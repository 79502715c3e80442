"""Compaction and vacuum beside a writer, a maker and a reader: nobody notices (row 13 of the matrix)."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.ingest.position import READINGS
from iot_platform.lake import Lake
from iot_platform.lake.maintain import MaintenanceResult, maintain
from iot_platform.settings import Settings
from iot_platform_tests.faults.late.lakes import Scene
from iot_platform_tests.faults.record import FaultRecord
from iot_platform_tests.faults.watcher import DerivedWatcher, Watcher

LONG_AGO_SECONDS = 9 * 86_400
AFTERWARDS = datetime(2026, 4, 1, tzinfo=UTC)  # all dates of the fleet are over


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do this work again and again in a thread, for the time of the block; what it raises is raised at the end."""
    done = threading.Event()
    raised: list[BaseException] = []

    def go() -> None:
        try:
            while not done.is_set():
                work()
        except BaseException as error:  # raised again below
            raised.append(error)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if raised:
        raise raised[0]


def abandoned(lake: Lake) -> Path:
    """A data file that no commit ever named, of an ingest that died long ago."""
    source = Path(lake.snapshot(READINGS).active[0].path)
    file = source.with_name("part-of-a-batch-that-died.zstd.parquet")
    file.write_bytes(source.read_bytes())
    old = time.time() - LONG_AGO_SECONDS
    os.utime(file, (old, old))
    return file


def race(settings: Settings, batches: int, seed: int, fault_record: FaultRecord) -> None:
    chance = random.Random(seed)
    engine = DuckDBEngine(settings)
    scene = Scene(Lake(settings), engine)
    scene.history(2)
    scene.settle()
    file = abandoned(scene.lake)
    held, own = Lake(settings), Lake(settings)  # a reader that opened its version before all of this, and a maintainer
    opened = held.snapshot(READINGS)
    rows = opened.rows
    done: list[MaintenanceResult] = []

    def maintained() -> None:
        done.extend(maintain(own, AFTERWARDS))

    def read_again() -> None:
        assert opened.delta.to_pyarrow_table(columns=["event_time"]).num_rows == rows

    with (
        Watcher(settings).running() as watcher, DerivedWatcher(settings).running() as derived,
        beside(maintained), beside(read_again),
    ):  # fmt: skip
        for number in range(batches):
            late = timedelta(minutes=chance.choice([0, 30, 1_500, 3_000]))
            scene.land(*(scene.fleet.now - late - timedelta(seconds=n) for n in range(5)), device=f"sensor-{number % 3}")
            if number % 6 == 5:
                scene.settle()
    scene.settle()
    scene.assert_recomputed()
    asked = scene.stale()
    maintained()
    assert scene.stale() == asked == {}, "maintenance asks for nothing"
    merges = sum(result.dates_compacted for result in done)
    assert merges and watcher.looks > 2 and derived.looks > 2
    assert sum(result.files_removed for result in done) and not file.exists(), "what nobody names any more is removed"
    wanted = {one.key for one in scene.stream.taken}
    names = ["topic", "kafka_partition", "kafka_offset", "metric"]
    stored = [tuple(row.values()) for row in scene.lake.snapshot(READINGS).delta.to_pyarrow_table(columns=names).to_pylist()]
    fault_record(
        fault="13 compaction and vacuum beside writer and reader", injections=merges, messages=len(wanted),
        lost=len(wanted - set(stored)), duplicated=len(stored) - len(set(stored)), seed=seed,
    )  # fmt: skip
    assert sorted(stored) == sorted(wanted), "a reading was lost or doubled"
    engine.close()


def test_maintenance_beside_writer_maker_and_reader_is_noticed_by_none(
    settings: Settings, seed: int, fault_record: FaultRecord
) -> None:
    race(settings, 12, seed, fault_record)


@pytest.mark.long
def test_maintenance_for_long_beside_writer_maker_and_reader_is_noticed_by_none(
    settings: Settings, seed: int, fault_record: FaultRecord
) -> None:
    race(settings, 150, seed, fault_record)
