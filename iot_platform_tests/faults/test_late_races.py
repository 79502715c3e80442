"""A late reading that lands at the worst moment is in the tables after the next look, whatever runs then (row 8)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from iot_platform.assets.metadata import table_of
from iot_platform.assets.platform import Platform
from iot_platform.automation import runs
from iot_platform.automation.level_sensor import evaluate
from iot_platform.automation.partitions import daily
from iot_platform.engines import materialize
from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.errors import LakeError
from iot_platform.failpoints import Armed, parse
from iot_platform.lake import Lake
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.faults.late.compare import KEYS
from iot_platform_tests.faults.late.lakes import Scene
from iot_platform_tests.faults.late.oracle import DAY, midnight
from iot_platform_tests.faults.record import FaultRecord
from iot_platform_tests.faults.watcher import DerivedWatcher

PATIENCE_SECONDS = 120
Made = set[tuple[str, date]]


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    engine = DuckDBEngine(settings)
    made = Scene(Lake(settings), engine)
    made.history(1)
    made.settle()
    with DerivedWatcher(settings).running():
        yield made
    engine.close()


class Run(threading.Thread):
    """One date of one table, made by a thread of its own; ``error`` is what it ended with."""

    def __init__(self, make: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.make = make
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.make()
        except Exception as error:  # looked at by the test
            self.error = error


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[], object]) -> Iterator[Run]:
    """The run stands before its commit for the time of the block; then it goes on, to its end."""
    gate = tmp_path / "go-on"
    monkeypatch.setattr(materialize, "reach", Armed(parse(f"derived.before_commit=hold:{gate}")))
    run = Run(make)
    run.start()
    assert wait_until(Path(f"{gate}.reached").exists, PATIENCE_SECONDS)
    yield run
    gate.touch()
    run.join(PATIENCE_SECONDS)
    assert not run.is_alive()


def record(fault_record: FaultRecord, scene: Scene, fault: str, injections: int) -> None:
    counted = scene.counted()
    fault_record(fault=fault, injections=injections, **counted.counts)
    counted.assert_exact()


def before_midnight(scene: Scene) -> datetime:
    """Ten minutes before the newest date began."""
    return midnight(scene.fleet.now.date()) - timedelta(minutes=10)


def make_inputs(scene: Scene, table: str, day: date) -> None:
    """Bring all that the table reads up to what landed: the table alone is behind then, for no other reason than its own."""
    scene.stale()  # the registries
    for source in TRANSFORMS[table].inputs:
        if source.table in KEYS:
            scene.make(source.table, day)


@pytest.mark.parametrize("table", ["silver/readings", "gold/daily_summary"])
def test_what_lands_while_a_date_is_made_is_in_it_after_the_next_look(
    scene: Scene, table: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault_record: FaultRecord
) -> None:
    late = before_midnight(scene)
    scene.land(late - timedelta(minutes=5))
    make_inputs(scene, table, late.date())
    with held(monkeypatch, tmp_path, lambda: scene.make(table, late.date())) as run:
        (taken,) = scene.land(late)
        make_inputs(scene, table, late.date())
    assert run.error is None
    assert late.date() in scene.stale()[table]
    scene.settle()
    scene.assert_recomputed()
    if table == "silver/readings":
        rows = scene.lake.snapshot(table).delta.to_pyarrow_table(columns=["event_time", "kafka_offset"]).to_pylist()
        assert {"event_time": late, "kafka_offset": taken.place.offset} in rows
    record(fault_record, scene, "8 late reading while a date is made", 1)


def test_of_two_runs_of_a_date_the_one_with_the_newer_inputs_stands(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault_record: FaultRecord
) -> None:
    late = before_midnight(scene)
    scene.land(late - timedelta(minutes=5))
    scene.stale()
    with held(monkeypatch, tmp_path, lambda: scene.make("silver/readings", late.date())) as older:
        scene.land(late)
        scene.settle()
    assert isinstance(older.error, LakeError) and "newer" in str(older.error)
    assert scene.stale() == {}, "the older run undid nothing"
    scene.assert_recomputed()
    record(fault_record, scene, "8 older run commits last", 1)


def test_several_arrivals_between_two_looks_are_made_once(scene: Scene, fault_record: FaultRecord) -> None:
    late = before_midnight(scene)
    for minutes in range(3):
        scene.land(late + timedelta(minutes=minutes))
    asked = scene.stale()
    assert all(len(days) == len(set(days)) for days in asked.values())
    silver = scene.lake.snapshot("silver/readings").version
    scene.settle()
    assert scene.lake.snapshot("silver/readings").version == silver + len(asked["silver/readings"])
    scene.assert_recomputed()
    record(fault_record, scene, "8 several arrivals in one tick", 3)


def test_a_late_reading_of_yesterday_scores_the_head_of_today_anew(scene: Scene) -> None:
    today = scene.fleet.now.date()

    def head() -> int:
        names = ["event_date", "event_time", "device_id", "metric", "recent_count"]
        rows = scene.lake.snapshot("silver/readings").delta.to_pyarrow_table(columns=names).to_pylist()
        own = [row for row in rows if row["event_date"] == today and row["device_id"] == "sensor-0"]
        return min((row for row in own if row["metric"] == "temperature"), key=lambda row: row["event_time"])["recent_count"]

    before = head()
    scene.land(before_midnight(scene))
    scene.settle()
    assert head() == before + 1
    scene.assert_recomputed()


def test_only_the_dates_that_a_late_reading_touches_are_asked_for(scene: Scene) -> None:
    """By the sensor, as runs: the date, the one after it whose head it scores, and the summaries of the week after."""
    platform = Platform(scene.lake.settings)
    first = min(scene.world.dates)
    scene.fleet.now += 2 * DAY
    scene.land(scene.fleet.now)
    scene.settle()
    made: list[Made] = []
    with dg.DagsterInstance.ephemeral() as instance:
        assert not _asked(platform, instance)
        scene.land(midnight(first) + timedelta(hours=1))
        scene.stale()
        while asked := _asked(platform, instance):
            made.append(asked)
            for table in TRANSFORMS:
                for day in sorted(day for name, day in asked if name == table):
                    assert not scene.make(table, day).skipped
    platform.engine.close()
    one_day = ("sensor_windows", "device_type_windows", "location_hourly", "duration_p95", "anomaly_events", "sensor_health")
    both = {first, first + DAY}
    assert set().union(*made) == {
        ("silver/rejected_readings", first),
        *(("silver/readings", day) for day in both),
        *((f"gold/{name}", day) for name in one_day for day in both),
        *(("gold/daily_summary", day) for day in scene.world.dates),
    }
    assert sum(map(len, made)) == len(set().union(*made)), "each was asked for once"
    assert len(scene.world.dates) == 3, "the third was left alone but for its summary of seven days"
    scene.assert_recomputed({first + 2 * DAY})  # a day of silence, which is judged too


def test_a_lost_tick_heals(scene: Scene, fault_record: FaultRecord) -> None:
    """The daemon dies with what a look asked for, twice: the next asks for the same, and for what landed since."""
    late = before_midnight(scene)
    scene.land(late)
    scene.stale()
    looks: list[Made] = []
    for _ in range(3):
        if len(looks) == 2:
            scene.land(late - DAY)
            scene.stale()
        platform = Platform(scene.lake.settings)
        with dg.DagsterInstance.ephemeral() as instance:  # nothing of it outlives the look
            looks.append(_asked(platform, instance))
        platform.engine.close()
    first, second, third = looks
    assert ("silver/readings", late.date()) in first and ("gold/daily_summary", late.date()) in first
    assert second == first
    assert third >= {*first, ("silver/readings", late.date() - DAY)}
    scene.settle()
    scene.assert_recomputed()
    record(fault_record, scene, "8 what a look asked for is lost", 2)


def _asked(platform: Platform, instance: dg.DagsterInstance) -> Made:
    partitions = daily(platform.settings)
    made: Made = set()
    for request in evaluate(platform, instance, partitions).run_requests or ():
        span = dg.PartitionKeyRange(request.tags[runs.RANGE_START], request.tags[runs.RANGE_END])
        days = [date.fromisoformat(key) for key in partitions.get_partition_keys_in_range(span)]
        made |= {(table_of(key), day) for key in request.asset_selection or () for day in days}
    return made
