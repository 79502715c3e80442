"""Dagster's daemon or a run killed (-9) at any point: it goes on by itself, one effect a date, and no run hangs (row 14)."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster import DagsterRunStatus

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.registry import registry_is_stale
from iot_platform.lake import Lake
from iot_platform.lake.levels import Levels, daily_transforms
from iot_platform.lake.stream_log import user_metadata
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform_tests.conftest import MakeSettings
from iot_platform_tests.faults.dagster_process import Daemon, daemon_of
from iot_platform_tests.faults.late.lakes import Scene
from iot_platform_tests.faults.late.oracle import DAY
from iot_platform_tests.faults.record import FaultRecord
from iot_platform_tests.faults.watcher import DerivedWatcher

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
PATIENCE_SECONDS = 300  # a deadline is for a hang, not for a busy machine
DERIVED = [transform.table for transform in daily_transforms()]


@pytest.fixture
def scene(make_settings: MakeSettings) -> Iterator[Scene]:
    """A lake that nobody has made anything of yet: two days of readings in Bronze."""
    chosen = make_settings(duckdb_threads=1)
    engine = DuckDBEngine(chosen)
    made = Scene(Lake(chosen), engine)
    made.history(1)
    yield made
    engine.close()


@pytest.fixture
def daemon(scene: Scene, dbt_manifest: Path) -> Iterator[Daemon]:
    # A reader looks at all that the runs make, from the first to the last of them.
    with DerivedWatcher(scene.lake.settings).running(), daemon_of(scene.lake.settings, dbt_manifest) as made:
        yield made


def until(is_so: Callable[[], bool], what: str, daemon: Daemon) -> None:
    assert wait_until(is_so, PATIENCE_SECONDS, 1), f"not in time: {what}; the log ends: {daemon.log.read_text()[-3000:]}"


def is_at_rest(settings: Settings) -> bool:
    """Whether everything is made from its newest inputs."""
    lake = Lake(settings)
    return not registry_is_stale(lake) and not any(Levels(lake).stale().values())


def commits(settings: Settings) -> int:
    """How often a derived table was written to."""
    lake = Lake(settings)
    return sum(lake.snapshot(table).version for table in DERIVED)


def killed_runs(daemon: Daemon) -> int:
    return len(daemon.runs(DagsterRunStatus.FAILURE))


def assert_one_effect(lake: Lake) -> None:
    """No date of a table was committed twice from the same inputs."""
    for table in DERIVED:
        notes = [user_metadata(commit) for commit in lake.snapshot(table).delta.history()]
        effects = Counter((note["date"], note["level"]) for note in notes if "level" in note)
        assert effects and set(effects.values()) == {1}, f"{table}: {json.dumps([str(one) for one in effects.items()])}"


def finish(scene: Scene, daemon: Daemon) -> float:
    """Wait until nothing is left to do, the seconds that took; then all tables equal a recomputation, each date had one
    effect, and no run hangs."""
    began = time.monotonic()
    until(lambda: is_at_rest(scene.lake.settings), "everything is made", daemon)
    seconds = time.monotonic() - began
    until(lambda: not daemon.unfinished() and not daemon.workers(), "no run hangs", daemon)
    scene.assert_recomputed()
    assert_one_effect(scene.lake)
    return seconds


def test_runs_that_die_after_each_few_commits_and_a_killed_daemon_leave_everything_made(
    scene: Scene, daemon: Daemon, fault_record: FaultRecord
) -> None:
    scene.settle()  # by the test itself: what remains for Dagster is what a late reading of yesterday touches
    scene.land(scene.fleet.now - DAY)
    scene.stale()
    before = commits(scene.lake.settings)
    daemon.start("derived.after_commit=kill@4")
    until(lambda: commits(scene.lake.settings) >= before + 4, "a run commits and dies", daemon)
    daemon.kill_all()
    assert not is_at_rest(scene.lake.settings)
    daemon.start()
    seconds = finish(scene, daemon)
    kills, counted = daemon.kills + killed_runs(daemon), scene.counted()
    fault_record(fault="14 run and daemon killed", injections=kills, recovery_seconds=seconds, **counted.counts)
    counted.assert_exact()
    assert killed_runs(daemon), "what hung after the kill was buried"


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("place", ["derived.before_commit", "derived.after_commit"])
def test_every_run_dies_at_its_fourth_date_and_still_all_is_made(
    scene: Scene, daemon: Daemon, place: str, fault_record: FaultRecord
) -> None:
    """Nobody helps: each run is killed on its way, and the next goes on where it was."""
    daemon.start(f"{place}=kill@4")
    seconds = finish(scene, daemon)
    kills, counted = killed_runs(daemon), scene.counted()
    fault_record(fault=f"14 every run killed at {place}", injections=kills, recovery_seconds=seconds, **counted.counts)
    counted.assert_exact()
    assert kills >= 2


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_daemon_and_runs_killed_at_random_moments_while_readings_come(
    scene: Scene, daemon: Daemon, seed: int, fault_record: FaultRecord
) -> None:
    chance = random.Random(seed)
    daemon.start()
    for number in range(8):
        before = commits(scene.lake.settings)
        until(
            lambda before=before: commits(scene.lake.settings) > before or is_at_rest(scene.lake.settings),
            "something is made", daemon,
        )  # fmt: skip
        scene.land(*(scene.fleet.now for _ in range(3)), device=f"sensor-{number % 3}")
        time.sleep(chance.uniform(0, 6))  # the moment of the kill is what is drawn
        workers = daemon.workers()
        if workers and chance.random() < 0.4:
            chance.choice(workers).kill()
            daemon.kills += 1
        else:
            (daemon.kill if chance.random() < 0.5 else daemon.kill_all)()
            daemon.start()
    seconds = finish(scene, daemon)
    counted = scene.counted()
    fault_record(
        fault="14 killed at random moments", injections=daemon.kills, recovery_seconds=seconds, seed=seed, **counted.counts
    )
    counted.assert_exact()
