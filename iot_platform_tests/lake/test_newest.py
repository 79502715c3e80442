"""What is kept of a table at its newest version is let go as soon as that is not the newest any more."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from iot_platform.lake.lake import Lake
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake

TABLE = "gold/duration_p95"


@pytest.fixture
def small(lake: Lake) -> SmallLake:
    return SmallLake(lake)


def test_nothing_is_opened_again_while_nothing_is_committed(small: SmallLake) -> None:
    assert small.lake.snapshot(TABLE) is small.lake.snapshot(TABLE)


def test_a_commit_of_another_process_is_seen_at_once(small: SmallLake) -> None:
    before = small.lake.snapshot(TABLE)
    SmallLake(Lake(small.lake.settings)).put(TABLE, D, [])
    after = small.lake.snapshot(TABLE)
    assert (before.version, after.version) == (0, 1)
    assert after.recorded_level(D) == 1


def test_a_pinned_snapshot_stays_what_it_was_while_its_own_process_writes(small: SmallLake) -> None:
    small.put(TABLE, D, [])
    pinned = small.lake.snapshot(TABLE)
    for n in range(1, 4):
        small.put(TABLE, D + n * DAY, [])
    assert (pinned.version, pinned.recorded_level(D), pinned.recorded_level(D + DAY)) == (1, 1, 0)


def test_two_writers_in_turn_both_go_on_from_what_the_other_committed(small: SmallLake) -> None:
    other = SmallLake(Lake(small.lake.settings))
    for n in range(6):
        (small, other)[n % 2].put(TABLE, D + timedelta(days=n), [])
    assert small.lake.snapshot(TABLE).version == other.lake.snapshot(TABLE).version == 6


def test_another_table_in_the_same_place_is_another_table(small: SmallLake) -> None:
    small.put(TABLE, D, [])
    assert small.lake.snapshot(TABLE).recorded_level(D) == 1
    shutil.rmtree(small.lake.path(TABLE))
    other = SmallLake(Lake(small.lake.settings))
    other.put(TABLE, D + DAY, [])
    assert small.lake.snapshot(TABLE).recorded_level(D) == 0
    small.put(TABLE, D + 2 * DAY, [])  # the handle that wrote into the table before would leave a hole in the log
    assert small.lake.snapshot(TABLE).version == 2


def test_after_a_checkpoint_the_log_is_read_anew(small: SmallLake) -> None:
    for n in range(3):
        small.put(TABLE, D + n * DAY, [])
    kept = small.lake.snapshot(TABLE)
    table = DeltaTable(small.lake.path(TABLE))
    table.create_checkpoint()
    for commit in sorted(Path(small.lake.path(TABLE), "_delta_log").glob("*.json"))[:2]:
        commit.unlink()
    assert small.lake.snapshot(TABLE) is not kept
    assert small.lake.snapshot(TABLE).recorded_level(D) == 1
