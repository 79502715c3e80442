"""Erasing a device: nothing of it is left in any file, nothing of others is lost, and the ledger balances at every step."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import registry_is_stale, sync_registry
from iot_platform.erase.run import Erased, Request, erase, unfinished
from iot_platform.erase.unfinished import remembered
from iot_platform.errors import InputError
from iot_platform.lake import Lake
from iot_platform.lake.erasures import read_erasures
from iot_platform.lake.ledger import date_ledger, offset_ledger
from iot_platform.lake.levels import Levels, bronze_level
from iot_platform.lake.retention import CLOSED_BEFORE, closed_number
from iot_platform.lake.tombstones import hash_of, key_file, read_key, read_tombstones
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake, at
from iot_platform_tests.erase.erasable import (
    DAYS,
    DEVICE,
    OTHER,
    THIRD,
    contents,
    fill,
    give_manifest,
    is_balanced,
    is_settled,
    make,
    traces,
)

LATER = NOW + timedelta(days=1)
REQUEST = Request(DEVICE, now=lambda: LATER)


class Killed(BaseException):
    """In the place of SIGKILL: nothing handles it."""


@pytest.fixture
def small(settings: Settings, dbt_manifest: Path) -> SmallLake:
    """Filled, and everything made from it."""
    small = SmallLake(Lake(settings))
    fill(small)
    make(small.lake)
    give_manifest(small.lake, dbt_manifest)
    return small


@pytest.fixture
def lake(small: SmallLake) -> Lake:
    return small.lake


@pytest.fixture
def without(tmp_path: Path) -> Lake:
    """The same lake, had the device never been."""
    small = SmallLake(Lake(Settings(home=tmp_path / "without", _env_file=None)))  # pyright: ignore[reportCallIssue]
    fill(small, with_device=False)
    make(small.lake)
    return small.lake


def levels_of(lake: Lake) -> dict[object, int]:
    """What every output date needs, and the level of every Bronze date."""
    levels = Levels(lake)
    found: dict[object, int] = {day: bronze_level(lake.snapshot("bronze/readings"), day) for day in DAYS}
    for transform in TRANSFORMS.values():
        if lake.contract(transform.table).partition:
            found |= {(transform.table, day): levels.needed(transform, day) for day in DAYS}
    return found


def test_everything_goes_and_the_rest_is_as_if_it_had_never_been(lake: Lake, without: Lake) -> None:
    before = levels_of(lake)
    root = Path(lake.root)
    assert len(traces(root, DEVICE)) > 20, "the look at the files finds what there is"
    result = erase(lake, REQUEST)
    assert result.is_clean, (result.problems, result.verification)
    assert traces(root, DEVICE) == []
    assert contents(lake) == contents(without)
    assert is_settled(lake)
    after = levels_of(lake)
    assert all(after[one] > before[one] for one in before), "no level falls: late readings would be missed"
    assert not any(Levels(lake).stale().values())
    counts = {name: count.device for name, count in result.before.items() if count.device}
    assert counts == {
        "bronze/readings": 104, "bronze/quarantine": 6, "silver/readings": 98, "silver/rejected_readings": 6,
        "gold/sensor_windows": 96, "gold/daily_summary": 2, "gold/sensor_health": 95, "gold/anomaly_events": 2,
        "registry/devices": 1, "registry/first_readings": 31,
    }  # fmt: skip
    assert {name: count.device for name, count in result.after.items() if count.device} == {}


def test_the_ledger_says_why_counts_changed(lake: Lake) -> None:
    consumed = offset_ledger(lake).consumed
    erase(lake, REQUEST)
    offsets = offset_ledger(lake)
    assert (offsets.consumed, offsets.erased) == (consumed, 110) and offsets.is_balanced
    assert [(line.bronze, line.silver, line.erased, line.pending) for line in date_ledger(lake)] == [(157, 99, 52, 0)] * 2


def test_a_second_time_nothing_is_left_to_do(lake: Lake) -> None:
    first = erase(lake, REQUEST)
    assert not first.is_repeated
    versions = {table: lake.snapshot(table).version for table in ("bronze/readings", "silver/readings", "ops/erasures")}
    again = erase(lake, REQUEST)
    assert again.is_repeated and again.is_clean and again.before == again.after
    assert {table: lake.snapshot(table).version for table in versions} == versions
    (row,) = read_erasures(lake)
    assert row.finished_at == LATER and json.loads(row.counts_after or "")["bronze/readings"]["device"] == 0
    assert DEVICE not in repr(row) and remembered(lake.settings) == {}


def test_killed_at_any_place_it_balances_and_goes_on(lake: Lake, without: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[str] = []

    def watch(name: str) -> None:
        if name not in places:
            places.append(name)
            assert is_balanced(lake), name
            raise Killed

    # Killed at each place in turn, and run again: each time it gets one place further.
    monkeypatch.setattr("iot_platform.erase.run.reach", watch)
    for _ in range(60):
        try:
            result = erase(Lake(lake.settings), REQUEST)
        except Killed:
            assert is_balanced(lake) and [one.number for one in unfinished(lake)] == [1]
            assert remembered(lake.settings).popitem()[1] == DEVICE
            continue
        break
    else:
        raise AssertionError(places)
    assert len(places) >= 18 and {"erase.after_tombstone", "erase.before_vacuum", "erase.after_log"} <= {*places}
    assert result.is_clean and result.is_repeated and not unfinished(lake)
    assert traces(Path(lake.root), DEVICE) == [] and contents(lake) == contents(without) and is_settled(lake)
    assert result.before["bronze/readings"].device == 104, "what it was before the first attempt"


@pytest.mark.parametrize("place", ["bronze_readings", "silver_readings", "gold_sensor_health"])
def test_a_run_that_began_before_brings_nothing_back(lake: Lake, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    # New readings of others make the dates stale; a run opens everything as it is now, and commits in the midst of it.
    SmallLake.__init__(late := SmallLake(lake), lake)
    late.seq, late.offset = 9_000_000, 10_000
    late.ingest([{"device_id": OTHER, "event_time": at(day, 7, 7)} for day in DAYS])
    levels = Levels(lake)
    for transform in TRANSFORMS.values():
        levels.snapshot(transform.table)
        for source in transform.inputs:
            levels.snapshot(source.table)

    def commit(name: str) -> None:
        if name == f"erase.after_{place}":
            engine = DuckDBEngine(lake.settings)
            for table in ("silver/readings", "silver/rejected_readings", "gold/sensor_health"):
                materialize_date(lake, engine, TRANSFORMS[table], D, now=NOW, levels=levels)
            engine.close()
            assert lake.snapshot("silver/readings").rows_by_date[D] > 100, "the old rows are back"

    monkeypatch.setattr("iot_platform.erase.run.reach", commit)
    result = erase(lake, REQUEST)
    assert result.is_clean and traces(Path(lake.root), DEVICE) == [] and is_settled(lake)


def test_closed_dates_lose_its_rows_and_keep_their_sums(lake: Lake) -> None:
    lake.commit_transaction(lake.writable("bronze/readings"), CLOSED_BEFORE, closed_number(D + DAY))
    marts = {table: lake.snapshot(table).recorded_level(D) for table in ("gold/sensor_windows", "gold/location_hourly")}
    result = erase(lake, REQUEST)
    assert result.is_clean and result.closed == [D]
    assert traces(Path(lake.root), DEVICE) == []
    hours = {row["event_date"]: row["sensors"] for row in SmallLake(lake).rows("gold/location_hourly")}
    assert hours == {D: 3, D + DAY: 2} or hours[D] > hours[D + DAY]
    # The marts go by levels: that of a table that lost rows moved, that of one that is as it was did not.
    assert lake.snapshot("gold/sensor_windows").recorded_level(D) > marts["gold/sensor_windows"]
    assert lake.snapshot("gold/location_hourly").recorded_level(D) == marts["gold/location_hourly"]
    assert is_balanced(lake)


def test_a_date_that_was_only_its_own_is_emptied_everywhere(settings: Settings, dbt_manifest: Path) -> None:
    small = SmallLake(Lake(settings))
    small.day(D, readings=4, device_id=OTHER)
    small.day(D + DAY, readings=4, device_id=DEVICE)
    make(small.lake)
    give_manifest(small.lake, dbt_manifest)
    assert small.lake.snapshot("gold/location_hourly").rows_by_date.keys() == {D, D + DAY}
    result = erase(small.lake, REQUEST)
    assert result.is_clean and is_settled(small.lake)
    assert small.lake.snapshot("gold/location_hourly").rows_by_date.keys() == {D}
    assert [line.erased for line in date_ledger(small.lake)] == [0, 4]


def test_the_registry_forgets_it_although_a_file_declares_it(lake: Lake) -> None:
    erase(lake, REQUEST)
    devices = lake.settings.declarations / "devices.csv"
    devices.write_text(devices.read_text() + f"{THIRD},sensor_reading,,hall,,,,1800,{D}T00:00:00Z,\n")
    assert DEVICE in devices.read_text() and registry_is_stale(lake)
    engine = DuckDBEngine(lake.settings)
    sync_registry(lake, engine, now=LATER)
    engine.close()
    known = {row["device_id"]: row["source"] for row in SmallLake(lake).rows("registry/devices")}
    assert known == {OTHER: "declared", THIRD: "declared"}
    assert not registry_is_stale(lake)


def test_a_device_that_only_was_declared_goes_too(lake: Lake) -> None:
    file = lake.settings.declarations / "devices.csv"
    file.write_text(file.read_text() + f"silent,sensor_reading,,hall,,,,1800,{D}T00:00:00Z,\n")
    make(lake)
    assert any(row["device_id"] == "silent" for row in SmallLake(lake).rows("gold/sensor_health"))
    result = erase(lake, replace(REQUEST, device_id="silent"))
    assert result.is_clean and result.before["gold/sensor_health"].device and traces(Path(lake.root), "silent") == []
    assert any(one.path == "registry/devices.csv" and "line 4" in one.todo for one in result.beside)


def test_an_id_that_no_table_knows_gets_a_tombstone_only_by_force(lake: Lake) -> None:
    with pytest.raises(InputError, match="no table knows a device 'nobody'"):
        erase(lake, Request("nobody"))
    assert not lake.exists("ops/erasures") and not read_tombstones(lake).hashes
    result = erase(lake, Request("nobody", force=True))
    assert result.is_clean and read_tombstones(lake).holds("nobody") and not read_tombstones(lake).holds(DEVICE)


def test_two_devices_have_two_numbers_and_both_stay_erased(lake: Lake) -> None:
    for device in (DEVICE, THIRD):
        assert erase(lake, replace(REQUEST, device_id=device)).is_clean
    key = read_key(lake.settings) or b""
    assert [(one.number, one.device_hash) for one in read_erasures(lake)] == [
        (1, hash_of(DEVICE, key)), (2, hash_of(THIRD, key)),
    ]  # fmt: skip
    assert {row["device_id"] for row in SmallLake(lake).rows("bronze/readings")} == {OTHER}
    assert is_settled(lake)


def test_another_key_is_refused_before_anything_is_done(lake: Lake) -> None:
    erase(lake, REQUEST)
    key_file(lake.settings).write_text("another")
    versions = lake.snapshot("bronze/readings").version
    with pytest.raises(InputError, match="another than the one"):
        erase(lake, replace(REQUEST, device_id=OTHER))
    assert lake.snapshot("bronze/readings").version == versions


def told(result: Erased) -> dict[str, tuple[int, str]]:
    return {one.path: (one.places, one.todo) for one in result.beside}


def test_files_beside_the_lake_are_cleaned_and_what_is_not_ours_is_told(lake: Lake) -> None:
    home = lake.settings.home
    texts = {
        "reports/daily/2026-03-10.md": "worst: dev-1, then dev-10",
        "truth/run.jsonl": '{"device_id": "dev-1"}\n{"device_id": "dev-10"}\n',
        "undelivered/run.jsonl": '{"device_id": "dev-1"}\n',
        "logs/spark/driver.log": "seen dev-1 and dev-10\n",
        "notes.txt": "dev-1 is noisy",
    }
    for name, text in texts.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    result = erase(lake, REQUEST)
    left = {name: (home / name).read_text() for name in texts}
    assert left == {
        "reports/daily/2026-03-10.md": "worst: [erased], then dev-10",
        "truth/run.jsonl": '{"device_id": "dev-10"}\n',
        "undelivered/run.jsonl": "",
        "logs/spark/driver.log": "seen ***** and dev-10\n",
        "notes.txt": "dev-1 is noisy",
    }
    assert told(result)["notes.txt"] == (0, "not the platform's to change: remove it, or the device from it")
    assert told(result)["truth/run.jsonl"] == (1, "")
    assert "line 2" in told(result)["registry/devices.csv"][1]


def test_dagster_s_own_history_names_it_no_more(lake: Lake) -> None:
    small = SmallLake(lake)
    small.seq, small.offset = 9_000_000, 10_000
    small.day(D, readings=3, device_id=DEVICE)
    from iot_platform.automation.run import run_assets

    assert run_assets(lake.settings, D, D, select=("registry", "silver"), force=False).is_success
    dagster = lake.settings.home / "dagster"
    assert traces(dagster, DEVICE)
    assert erase(lake, REQUEST).is_clean
    assert traces(dagster, DEVICE) == []
