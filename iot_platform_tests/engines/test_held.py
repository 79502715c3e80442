"""A date that a rollback holds is left as it is by whatever makes dates, and is made again once it is released."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import DateResult, materialize_date
from iot_platform.engines.registry import sync_registry
from iot_platform.lake import Lake
from iot_platform.lake.ledger import date_ledger
from iot_platform.lake.levels import Levels
from iot_platform.lake.outdated import outdated
from iot_platform.lake.rollback import release, roll_back
from iot_platform.settings import Settings
from iot_platform.transforms import catalog
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake

SILVER, REJECTED, WINDOWS, SUMMARY = (
    "silver/readings", "silver/rejected_readings", "gold/sensor_windows", "gold/daily_summary",
)  # fmt: skip


class Waiting(DuckDBEngine):
    """An engine that says when it has computed a date, and waits to be let on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.computed, self.go_on = Event(), Event()

    def compute(self, *arguments: Any, **named: Any) -> Any:
        derived = super().compute(*arguments, **named)
        self.computed.set()
        assert self.go_on.wait(60)
        return derived


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    lake = SmallLake(Lake(settings))
    lake.day(D, 4)
    return lake


def heal(small: SmallLake, engine: DuckDBEngine) -> dict[str, set[Any]]:
    """Make what is stale, as automation does; what was made, by table."""
    sync_registry(small.lake, engine, now=NOW)
    made: dict[str, set[Any]] = {}
    for table, days in Levels(small.lake).stale().items():
        for day in days:
            if not materialize_date(small.lake, engine, TRANSFORMS[table], day, now=NOW).skipped:
                made.setdefault(table, set()).add(day)
    return made


def make(small: SmallLake, engine: DuckDBEngine, table: str, *, force: bool = False) -> DateResult:
    return materialize_date(small.lake, engine, TRANSFORMS[table], D, now=NOW, force=force)


def readings(small: SmallLake) -> int:
    return small.lake.snapshot(WINDOWS).rows_by_date.get(D, 0)


def test_what_reads_a_date_follows_it_back_and_forth_by_itself(small: SmallLake, engine: DuckDBEngine) -> None:
    heal(small, engine)
    small.day(D, 4, device_id="d2")
    heal(small, engine)
    assert readings(small) == 8
    roll_back(small.lake, SILVER, D)
    made = heal(small, engine)
    assert SILVER not in made and made[WINDOWS] == {D} and readings(small) == 4
    assert made[SUMMARY] == {D}
    (line,) = [line for line in date_ledger(small.lake) if line.event_date == D]
    assert line.pending == 4 and line.is_balanced

    small.day(D, 4, device_id="d3")  # late readings wait with the date
    assert SILVER not in heal(small, engine)
    assert D not in Levels(small.lake).stale()[SILVER], "nobody is to ask for it"
    assert not heal(small, engine), "and nothing goes round in circles"

    release(small.lake, SILVER, D)
    made = heal(small, engine)
    assert made[SILVER] == {D} and made[WINDOWS] == {D} and readings(small) == 12
    (line,) = [line for line in date_ledger(small.lake) if line.event_date == D]
    assert line.pending == 0 and line.is_balanced


def test_neighbours_of_a_held_date_are_made_as_ever(small: SmallLake, engine: DuckDBEngine) -> None:
    heal(small, engine)
    small.day(D, 4, device_id="d2")
    heal(small, engine)
    roll_back(small.lake, SILVER, D)
    small.day(D + DAY, 4)
    small.day(D, 1, device_id="d4")
    made = heal(small, engine)
    assert made[SILVER] == {D + DAY}
    assert made[SUMMARY] == {D, D + DAY}


def test_nobody_makes_a_held_date_however_he_asks(
    small: SmallLake, engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(small, engine, REJECTED)
    make(small, engine, REJECTED, force=True)
    roll_back(small.lake, REJECTED, D)
    before = small.lake.snapshot(REJECTED).version
    written = catalog._text
    for force in (False, True):
        left = make(small, engine, REJECTED, force=force)
        assert left.skipped and "--release" in left.held and REJECTED in left.held
    monkeypatch.setattr(catalog, "_text", lambda view: written(view) + "\n-- new")
    assert make(small, engine, REJECTED).held and outdated(small.lake) == {}
    assert small.lake.snapshot(REJECTED).version == before
    release(small.lake, REJECTED, D)
    assert REJECTED in outdated(small.lake) and not make(small, engine, REJECTED).skipped


def test_a_run_that_is_making_the_date_while_it_is_put_back_gives_way(small: SmallLake, settings: Settings) -> None:
    engine = Waiting(settings)
    engine.go_on.set()
    make(small, engine, REJECTED)
    make(small, engine, REJECTED, force=True)
    small.day(D, 1, device_id="d2")  # newer inputs than the rollback's level
    engine.computed.clear()
    engine.go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(make, small, engine, REJECTED)
        assert engine.computed.wait(60)
        done = roll_back(Lake(settings), REJECTED, D)
        engine.go_on.set()
        result = running.result(60)
    engine.close()
    assert result.held and result.version == done.version == small.lake.snapshot(REJECTED).version
