"""When a date is made again: its inputs moved, other code made it, or somebody asked; and when it is left alone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import DateResult, materialize_date
from iot_platform.lake import Lake
from iot_platform.lake.snapshot import code_number
from iot_platform.settings import Settings
from iot_platform.transforms import catalog
from iot_platform.transforms.catalog import TRANSFORMS, code_version
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake

TABLE = "silver/rejected_readings"
TRANSFORM = TRANSFORMS[TABLE]


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    lake = SmallLake(Lake(settings))
    lake.day(D, 3)
    return lake


def make(small: SmallLake, engine: DuckDBEngine, day: date = D, *, force: bool = False) -> DateResult:
    return materialize_date(small.lake, engine, TRANSFORM, day, now=NOW, force=force)


def test_a_date_is_made_again_when_its_inputs_or_its_code_moved_and_when_asked(
    small: SmallLake, engine: DuckDBEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(small, engine)
    assert not first.skipped and make(small, engine).skipped
    asked = make(small, engine, force=True)
    assert not asked.skipped and asked.level == first.level + 1
    written = catalog._text
    monkeypatch.setattr(catalog, "_text", lambda view: written(view) + "\n-- new")
    changed = make(small, engine)
    assert not changed.skipped and changed.level == first.level + 2
    assert make(small, engine).skipped
    small.day(D, 1, device_id="d2")
    assert not make(small, engine).skipped


def test_a_date_that_never_was_and_has_no_input_is_left_alone(small: SmallLake, engine: DuckDBEngine) -> None:
    assert make(small, engine, D + DAY).skipped
    assert not make(small, engine, D + DAY, force=True).skipped


def test_which_code_made_a_date_outlives_the_logs_clean_up(small: SmallLake, engine: DuckDBEngine) -> None:
    code = code_version(TRANSFORM)
    make(small, engine)
    make(small, engine, force=True)
    lake, log = small.lake, Path(small.lake.path(TABLE)) / "_delta_log"
    assert lake.snapshot(TABLE).is_made_by(D, code)
    lake.writable(TABLE).delta.create_checkpoint()
    for commit in log.glob("*.json"):
        if commit.stem.isdigit() and int(commit.stem) < lake.snapshot(TABLE).version:
            commit.unlink()
    reopened = Lake(small.lake.settings).snapshot(TABLE)
    assert reopened.is_made_by(D, code) and not reopened.is_made_by(D + DAY, code)
    assert not reopened.is_made_by(D, "0123456789abcdef")


def test_every_code_version_is_a_number_that_a_transaction_can_hold() -> None:
    numbers = {code_number(code_version(transform)) for transform in TRANSFORMS.values()}
    assert len(numbers) == len(TRANSFORMS) and all(0 <= number < 2**63 for number in numbers)
    assert code_number("f" * 16) < 2**63


def test_the_time_that_is_written_is_the_callers(small: SmallLake, engine: DuckDBEngine) -> None:
    now = datetime(2026, 3, 21, 12, tzinfo=UTC)
    small.ingest([{"event_time": datetime(2026, 3, 10, 5, tzinfo=UTC), "value": None}])
    materialize_date(small.lake, engine, TRANSFORM, D, now=now)
    assert {row["processed_at"] for row in small.rows(TABLE)} == {now}
