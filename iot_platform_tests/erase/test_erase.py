"""Erasing a device: nothing of it is left in any file, nothing of others is lost, and the ledger balances at every step."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter

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
from iot_platform.lake.rollback import release, roll_back
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
from iot_platform_tests.faults.record import FaultRecord

LATER = NOW + timedelta(days=1)
REQUEST = Request(DEVICE, now=lambda: LATER)
BESIDE = {
    "reports/daily/2026-03-10.md": ("worst: dev-1, then dev-10", "worst: [erased], then dev-10"),
    "truth/run.jsonl": ('{"device_id": "dev-1"}\n{"device_id": "dev-10"}\n', '{"device_id": "dev-10"}\n'),
    "undelivered/run.jsonl": ('{"device_id": "dev-1"}\n', ""),
    "logs/spark/driver.log": ("seen dev-1 and dev-10\n", "seen ***** and dev-10\n"),
    "notes.txt": ("dev-1 is noisy", "dev-1 is noisy"),
}


class Killed(BaseException):
    """In the place of SIGKILL: nothing handles it."""


def filled(settings: Settings, manifest: Path | None = None, *, with_device: bool = True) -> Lake:
    """A lake with everything made from its Bronze."""
    small = SmallLake(Lake(settings))
    fill(small, with_device=with_device)
    make(small.lake)
    if manifest:
        give_manifest(small.lake, manifest)
    return small.lake


def levels_of(lake: Lake) -> dict[object, int]:
    """What every output date needs, and the level of every Bronze date."""
    levels = Levels(lake)
    found: dict[object, int] = {day: bronze_level(lake.snapshot("bronze/readings"), day) for day in DAYS}
    for transform in TRANSFORMS.values():
        if lake.contract(transform.table).partition:
            found |= {(transform.table, day): levels.needed(transform, day) for day in DAYS}
    return found


@dataclass
class Done:
    """An erasure, and what the lake was before it."""

    lake: Lake
    result: Erased
    levels: dict[object, int]
    consumed: int
    files_with_traces: int

    @property
    def home(self) -> Path:
        return self.lake.settings.home


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The same lake, had the device never been."""
    home = tmp_path_factory.mktemp("without")
    return filled(Settings(home=home, _env_file=None), with_device=False)  # pyright: ignore[reportCallIssue]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, dbt_manifest: Path) -> Done:
    """A lake from which the device was erased, after a run of Dagster's had written down some of its rows."""
    from iot_platform.automation.run import run_assets

    home = tmp_path_factory.mktemp("erased")
    lake = filled(Settings(home=home, _env_file=None), dbt_manifest)  # pyright: ignore[reportCallIssue]
    assert run_assets(lake.settings, D, D, select=("silver",), force=True).is_success
    assert traces(home / "dagster", DEVICE)
    roll_back(lake, "silver/readings", D, reason=f"{DEVICE} sent nonsense")
    release(lake, "silver/readings", D)
    for name, (text, _) in BESIDE.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    before = levels_of(lake), offset_ledger(lake).consumed, len(traces(Path(lake.root), DEVICE))
    return Done(lake, erase(lake, REQUEST), *before)


def test_everything_goes_and_the_rest_is_as_if_it_had_never_been(done: Done, without: Lake) -> None:
    assert done.files_with_traces > 20, "the look at the files finds what there is"
    assert done.result.is_clean, (done.result.problems, done.result.verification)
    assert traces(Path(done.lake.root), DEVICE) == []
    reasons = [commit.get("userMetadata") or "" for commit in done.lake.snapshot("silver/readings").delta.history()]
    assert any('"reason": "[erased] sent nonsense"' in reason for reason in reasons), "the rest of the commit stays"
    assert contents(done.lake) == contents(without)
    counts = {name: count.device for name, count in done.result.before.items() if count.device}
    assert counts == {
        "bronze/readings": 104, "bronze/quarantine": 6, "silver/readings": 98, "silver/rejected_readings": 6,
        "gold/sensor_windows": 96, "gold/daily_summary": 2, "gold/sensor_health": 95, "gold/anomaly_events": 2,
        "registry/devices": 1, "registry/first_readings": 31,
    }  # fmt: skip
    assert {name: count.device for name, count in done.result.after.items() if count.device} == {}


def test_no_level_falls_and_nothing_stays_stale(done: Done) -> None:
    after = levels_of(done.lake)
    assert all(after[one] > before for one, before in done.levels.items()), "late readings would be missed"
    assert not any(Levels(done.lake).stale().values())


def test_the_ledger_says_why_counts_changed(done: Done) -> None:
    offsets = offset_ledger(done.lake)
    assert (offsets.consumed, offsets.erased) == (done.consumed, 110) and offsets.is_balanced
    lines = [(line.bronze, line.silver, line.erased, line.pending) for line in date_ledger(done.lake)]
    assert lines == [(157, 99, 52, 0)] * 2 and is_settled(done.lake)


def test_files_beside_the_lake_are_cleaned_and_what_is_not_ours_is_told(done: Done) -> None:
    assert {name: (done.home / name).read_text() for name in BESIDE} == {name: left for name, (_, left) in BESIDE.items()}
    told = {one.path: (one.places, one.todo) for one in done.result.beside}
    assert told["notes.txt"] == (0, "not the platform's to change: remove it, or the device from it")
    assert told["truth/run.jsonl"] == (1, "") and "line 2" in told["registry/devices.csv"][1]
    assert traces(done.home / "dagster", DEVICE) == [], "the previews in Dagster's own history"


def test_a_second_time_nothing_is_left_to_do(done: Done) -> None:
    versions = {table: done.lake.snapshot(table).version for table in ("bronze/readings", "silver/readings", "ops/erasures")}
    again = erase(done.lake, REQUEST)
    assert again.is_repeated and again.is_clean and again.before == again.after
    assert {table: done.lake.snapshot(table).version for table in versions} == versions
    (row,) = read_erasures(done.lake)
    assert row.finished_at == LATER and json.loads(row.counts_after or "")["bronze/readings"]["device"] == 0
    assert DEVICE not in repr(row) and remembered(done.lake.settings) == {}


def test_the_registry_forgets_it_although_a_file_declares_it(done: Done) -> None:
    devices = done.lake.settings.declarations / "devices.csv"
    devices.write_text(devices.read_text() + f"{THIRD},sensor_reading,,hall,,,,1800,{D}T00:00:00Z,\n")
    assert DEVICE in devices.read_text() and registry_is_stale(done.lake)
    engine = DuckDBEngine(done.lake.settings)
    sync_registry(done.lake, engine, now=LATER)
    engine.close()
    known = {row["device_id"]: row["source"] for row in SmallLake(done.lake).rows("registry/devices")}
    assert known == {OTHER: "declared", THIRD: "declared"} and not registry_is_stale(done.lake)


def test_an_id_that_no_table_knows_gets_a_tombstone_only_by_force(settings: Settings) -> None:
    lake = Lake(settings)
    SmallLake(lake).ingest([], [{}])
    with pytest.raises(InputError, match="no table knows a device 'nobody'"):
        erase(lake, Request("nobody"))
    assert not lake.exists("ops/erasures") and not read_tombstones(lake).hashes
    assert erase(lake, Request("nobody", force=True)).is_clean
    assert read_tombstones(lake).holds("nobody") and not read_tombstones(lake).holds(DEVICE)
    key_file(settings).write_text("another")
    versions = lake.snapshot("bronze/readings").version
    with pytest.raises(InputError, match="another than the one"):
        erase(lake, Request("somebody", force=True))
    assert lake.snapshot("bronze/readings").version == versions


@pytest.mark.long
def test_killed_at_any_place_it_balances_and_goes_on(
    settings: Settings, dbt_manifest: Path, without: Lake, monkeypatch: pytest.MonkeyPatch, fault_record: FaultRecord
) -> None:
    lake = filled(settings, dbt_manifest)
    places: list[str] = []

    def watch(name: str) -> None:
        if name not in places:
            places.append(name)
            assert is_balanced(lake), name
            raise Killed

    # Killed at each place in turn, and run again: each time it gets one place further.
    monkeypatch.setattr("iot_platform.erase.run.reach", watch)
    result, began = None, 0.0
    while result is None:
        began = perf_counter()
        try:
            result = erase(Lake(settings), REQUEST)
        except Killed:
            assert is_balanced(lake) and [one.number for one in unfinished(lake)] in ([], [1])
            assert [*remembered(settings).values()] == [DEVICE]
    assert len(places) >= 18 and {"erase.after_tombstone", "erase.before_vacuum", "erase.after_log"} <= {*places}
    assert result.is_clean and result.is_repeated and not unfinished(lake) and not remembered(settings)
    assert traces(Path(lake.root), DEVICE) == [] and contents(lake) == contents(without) and is_settled(lake)
    assert result.before["bronze/readings"].device == 104, "what it was before the first attempt"
    fault_record(
        fault="erase killed at every place", injections=len(places), messages=320, recovery_seconds=perf_counter() - began,
        lost=None, duplicated=None,  # its lake has no messages; its tables were compared with a lake without the device
    )  # fmt: skip


def test_a_run_that_began_before_brings_nothing_back(
    settings: Settings, dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = filled(settings, dbt_manifest)
    # New readings of others make the dates stale; runs open everything as it is now, and commit in the midst of it.
    late = SmallLake(lake)
    late.seq, late.offset = 9_000_000, 10_000
    late.ingest([{"device_id": OTHER, "event_time": at(day, 7, 7)} for day in DAYS])
    levels = Levels(lake)
    for transform in TRANSFORMS.values():
        for table in (transform.table, *(source.table for source in transform.inputs)):
            levels.snapshot(table)
    days = {"erase.after_bronze_readings": D, "erase.after_gold_sensor_health": D + DAY}

    def commit(name: str) -> None:
        if day := days.get(name):
            engine = DuckDBEngine(lake.settings)
            for table in ("silver/readings", "silver/rejected_readings", "gold/sensor_health"):
                materialize_date(lake, engine, TRANSFORMS[table], day, now=NOW, levels=levels)
            engine.close()
            assert lake.snapshot("silver/readings").rows_by_date[day] > 120, "the old rows are back"

    monkeypatch.setattr("iot_platform.erase.run.reach", commit)
    result = erase(lake, REQUEST)
    assert result.is_clean and traces(Path(lake.root), DEVICE) == [] and is_settled(lake)


def sensors(lake: Lake) -> dict[object, int]:
    return {row["event_date"]: row["sensors"] for row in SmallLake(lake).rows("gold/location_hourly")}


def test_closed_and_held_dates_lose_its_rows_and_keep_their_sums(settings: Settings, dbt_manifest: Path) -> None:
    lake = filled(settings, dbt_manifest)
    small = SmallLake(lake)
    small.seq, small.offset = 9_000_000, 10_000
    small.day(D + 2 * DAY, readings=4, device_id=DEVICE)  # a date that is the device's alone
    devices = settings.declarations / "devices.csv"
    devices.write_text(devices.read_text() + f"silent-7,sensor_reading,,hall,,,,1800,{D}T00:00:00Z,\n")
    make(lake)
    assert D + 2 * DAY in lake.snapshot("gold/location_hourly").rows_by_date
    lake.force("gold/location_hourly", D + DAY)
    make(lake)
    roll_back(lake, "gold/location_hourly", D + DAY)
    lake.commit_transaction(lake.writable("bronze/readings"), CLOSED_BEFORE, closed_number(D + DAY))
    tables = ("gold/sensor_windows", "gold/location_hourly")
    before = {table: lake.snapshot(table).recorded_level(D) for table in tables}
    result = erase(lake, REQUEST)
    assert result.is_clean and result.closed == [D] and result.held == {"gold/location_hourly": [D + DAY]}
    assert traces(Path(lake.root), DEVICE) == [] and is_balanced(lake)
    assert sensors(lake) == {D: 3, D + DAY: 3}, "summed up as it was, held, and emptied"
    release(lake, "gold/location_hourly", D + DAY)
    # The marts go by levels: that of a table that lost rows moved, that of one that is as it was did not.
    moved = {table: lake.snapshot(table).recorded_level(D) > before[table] for table in tables}
    assert moved == {"gold/sensor_windows": True, "gold/location_hourly": False}
    # One that was declared and never reported has rows of health.
    again = erase(lake, replace(REQUEST, device_id="silent-7"))
    assert sensors(lake) == {D: 3, D + DAY: 2} and not again.held, "released, and made again without it"
    assert again.before["gold/sensor_health"].device and again.after["gold/sensor_health"].device == 0
    key = read_key(lake.settings) or b""
    assert again.is_clean and [(one.number, one.device_hash) for one in read_erasures(lake)] == [
        (1, hash_of(DEVICE, key)), (2, hash_of("silent-7", key)),
    ]  # fmt: skip
    assert traces(Path(lake.root), "silent-7") == [] and is_balanced(lake)
