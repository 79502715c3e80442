"""All transactions are read in one pass, the same as the library tells them one by one, before and after checkpoints."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from iot_platform.lake import Lake
from iot_platform.lake.snapshot import level_id
from iot_platform.lake.transactions import transactions
from iot_platform_tests.lake.conftest import Put, p95_row

TABLE = "gold/duration_p95"
DAYS = [date(2026, 2, 1) + timedelta(days=n) for n in range(6)]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_one_pass_tells_what_the_library_tells(lake: Lake, put: Put, checkpointed: bool) -> None:
    for level, day in enumerate(DAYS, start=10):
        put(TABLE, day, [p95_row(day)], level=level)
        if checkpointed and day == DAYS[3]:
            lake.snapshot(TABLE).delta.create_checkpoint()
            log = Path(lake.path(TABLE)) / "_delta_log"
            for number in range(4):  # as log clean-up does
                (log / f"{number:020d}.json").unlink()
    lake.force(TABLE, DAYS[0])
    put(TABLE, DAYS[1], [], level=99)
    delta = lake.snapshot(TABLE).delta
    found = transactions(delta)
    assert found is not None
    assert {level_id(day): delta.transaction_version(level_id(day)) for day in DAYS} == {
        level_id(day): found[level_id(day)] for day in DAYS
    }
    assert found[level_id(DAYS[1])] == 99
    assert lake.snapshot(TABLE).forced(DAYS[0]) == 1


def test_an_older_version_tells_what_was_recorded_then(lake: Lake, put: Put) -> None:
    put(TABLE, DAYS[0], [p95_row(DAYS[0])], level=1)
    old = lake.snapshot(TABLE).version
    put(TABLE, DAYS[0], [p95_row(DAYS[0])], level=2)
    lake.snapshot(TABLE).delta.create_checkpoint()
    assert lake.snapshot(TABLE, old).recorded_level(DAYS[0]) == 1


def test_a_log_with_a_gap_is_left_to_the_library(lake: Lake, put: Put) -> None:
    put(TABLE, DAYS[0], [p95_row(DAYS[0])], level=7)
    snapshot = lake.snapshot(TABLE)
    (Path(lake.path(TABLE)) / "_delta_log" / f"{0:020d}.json").unlink()
    assert transactions(snapshot.delta) is None
    assert snapshot.recorded_level(DAYS[0]) == 7
