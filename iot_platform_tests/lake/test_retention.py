"""Retention: what has had its time goes, layer by layer; what is closed stays as it was made, whoever asks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest

from iot_platform.engines import open_engine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.protocol import Engine
from iot_platform.engines.registry import sync_registry
from iot_platform.errors import InputError, LakeError
from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake import Lake, expiry
from iot_platform.lake.expiry import close, delete_before, expire
from iot_platform.lake.ledger import date_ledger, offset_ledger
from iot_platform.lake.levels import Levels
from iot_platform.lake.maintain import maintain
from iot_platform.lake.outdated import outdated
from iot_platform.lake.retention import Periods, closed_before
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, SmallLake, at
from iot_platform_tests.conftest import MakeSettings
from iot_platform_tests.contracts.messages import message, record
from iot_platform_tests.ingest.local_sink import LocalIngest

TODAY = NOW.date()  # 2026-03-20, a Friday
SILVER, REJECTED, SUMMARY, WINDOWS = (
    "silver/readings", "silver/rejected_readings", "gold/daily_summary", "gold/sensor_windows",
)  # fmt: skip
KEPT = {"keep_bronze_days": 5, "keep_silver_days": 11, "keep_gold_days": 12, "keep_quarantine_days": 5}
CLOSED = date(2026, 3, 15)
OLDEST = {READINGS: date(2026, 3, 14), SILVER: date(2026, 3, 9), WINDOWS: date(2026, 3, 8)}


def make_all(lake: Lake, engine: Engine) -> None:
    sync_registry(lake, engine, now=NOW)
    for table, days in Levels(lake).stale().items():
        for day in days:
            materialize_date(lake, engine, TRANSFORMS[table], day, now=NOW)


@pytest.fixture
def engine(make_settings: MakeSettings) -> Iterator[Engine]:
    engine = open_engine(make_settings(**KEPT))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> SmallLake:
    """Two readings, one a duplicate, of every date from two weeks ago on, and messages refused on three; all is made."""
    home = tmp_path_factory.mktemp("lived")
    settings = Settings(home=home, **KEPT, _env_file=None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    small = SmallLake(Lake(settings))
    for back in range(14, 2, -1):
        reading = {"event_time": at(TODAY - DAY * back)}
        refused = [{"event_date": TODAY - DAY * back}] if back in (12, 6, 4) else []
        small.ingest([reading, reading], refused)
    engine = open_engine(settings)
    make_all(small.lake, engine)
    engine.close()
    return small


@pytest.fixture
def small(lived: SmallLake, make_settings: MakeSettings) -> SmallLake:
    """A copy of that lake."""
    lake = Lake(make_settings(**KEPT))
    shutil.copytree(lived.lake.root, lake.root)
    small = SmallLake(lake)
    small.seq, small.offset, small.newest = lived.seq, lived.offset, lived.newest
    return small


def dates(lake: Lake, table: str) -> list[date]:
    return sorted(lake.snapshot(table).rows_by_date)


def content(lake: Lake, since: date = date.min) -> dict[str, Any]:
    """What a reader of the derived tables sees from this date on, without the versions."""
    lake = Lake(lake.settings)
    return {
        table: sorted(
            (sorted((key, str(value)) for key, value in row.items()) for row in SmallLake(lake).rows(table)
             if row["event_date"] >= since),
        )
        for table in (SILVER, REJECTED, SUMMARY, WINDOWS)
    }  # fmt: skip


def assert_balanced(lake: Lake) -> None:
    lake = Lake(lake.settings)
    assert [line for line in date_ledger(lake) if not line.is_balanced] == []
    assert offset_ledger(lake).is_balanced, offset_ledger(lake)


def test_each_layer_loses_what_has_had_its_time_and_the_books_balance(small: SmallLake) -> None:
    lake = small.lake
    before = content(lake, OLDEST[WINDOWS])
    assert_balanced(lake)
    planned = {one.table: one for one in expire(lake, NOW, dry_run=True)}
    assert closed_before(lake) is None and dates(lake, READINGS)[0] == TODAY - DAY * 14
    done = {one.table: one for one in expire(lake, NOW)}
    assert done == planned
    assert (done[READINGS].dates, done[READINGS].rows, done[READINGS].closes) == (8, 16, CLOSED)
    assert (done[QUARANTINE].rows, done[WINDOWS].first, done[WINDOWS].last) == (2, date(2026, 3, 6), date(2026, 3, 7))
    assert closed_before(lake) == CLOSED
    for table, oldest in OLDEST.items():
        assert dates(lake, table)[0] == oldest, table
    after = content(lake, OLDEST[WINDOWS])
    assert after[WINDOWS] == before[WINDOWS] and after[SUMMARY] == before[SUMMARY]
    assert not any(Levels(Lake(lake.settings)).stale().values()) and not outdated(lake)
    assert_balanced(lake)
    lines = {line.event_date: line for line in date_ledger(lake)}
    assert min(lines) == OLDEST[SILVER]  # of what was before nothing is left that could be counted
    assert (lines[date(2026, 3, 10)].bronze, lines[date(2026, 3, 10)].expired) == (0, 2)
    assert (lines[CLOSED].bronze, lines[CLOSED].expired) == (2, 0)
    assert offset_ledger(lake).expired == 16 + 2
    assert offset_ledger(lake).as_json()["expired"] == 18
    again = expire(lake, NOW)
    assert [(one.table, one.dates, one.closes) for one in again] == [(READINGS, 0, CLOSED)]


def test_without_settings_nothing_is_ever_deleted_or_closed(settings: Settings) -> None:
    small = SmallLake(Lake(settings))
    small.day(date(2020, 1, 1), 3)
    assert expire(small.lake, NOW) == [] and closed_before(small.lake) is None
    assert {one.table: one for one in maintain(small.lake, NOW)}[READINGS].dates_expired == 0
    assert len(small.rows(READINGS)) == 3


def test_an_empty_lake_has_nothing_to_lose(make_settings: MakeSettings) -> None:
    lake = Lake(make_settings(**KEPT))
    assert expire(lake, NOW) == [] and not lake.exists(READINGS)


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"keep_silver_days": 30}, "KEEP_SILVER_DAYS=30, but Bronze is kept for ever"),
        ({"keep_gold_days": 30}, "KEEP_GOLD_DAYS=30, but Bronze is kept for ever"),
        ({"keep_bronze_days": 30, "keep_silver_days": 35}, "KEEP_SILVER_DAYS=35 is too short.*up to 36 days"),
        ({"keep_bronze_days": 30, "keep_gold_days": 29}, "KEEP_GOLD_DAYS=29 is too short"),
    ],
)
def test_periods_that_would_leave_open_dates_without_their_inputs_are_refused(
    kept: dict[str, int], told: str, make_settings: MakeSettings
) -> None:
    lake = Lake(make_settings(**kept))
    with pytest.raises(InputError, match=told):
        maintain(lake, NOW)


def test_good_periods_are_taken(make_settings: MakeSettings) -> None:
    assert Periods.of(make_settings(keep_bronze_days=30, keep_silver_days=36)) == Periods(30, 36)
    assert Periods.of(make_settings(keep_quarantine_days=9)).ends(QUARANTINE, TODAY) == TODAY - DAY * 9
    assert Periods.of(make_settings(keep_bronze_days=30)).ends("registry/devices", TODAY) is None


def everything_that_could_remake(small: SmallLake, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ask for the closed dates in every way there is; what was answered."""
    lake, answers = small.lake, []
    # Another writer, beside the stream, puts a row there; a device that covers the dates is declared.
    small.ingest([{"event_time": at(CLOSED - DAY, 20)}, {"event_time": at(date(2026, 3, 10), 20)}])
    folder = lake.settings.declarations
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "devices.csv").write_text(
        "device_id,contract,cadence_seconds,installed_at,site\nd1,sensor_reading,60,2026-01-01T00:00:00Z,x\n"
    )
    sync_registry(lake, engine, now=NOW)
    monkeypatch.setattr("iot_platform.engines.materialize.code_version", lambda _: "0123456789abcdef")
    for day in (date(2026, 3, 7), date(2026, 3, 10), CLOSED - DAY):
        for table in (SILVER, REJECTED, SUMMARY, WINDOWS, "gold/sensor_health"):
            for force in (False, True):
                result = materialize_date(lake, engine, TRANSFORMS[table], day, now=NOW, force=force)
                assert result.skipped
                answers.append(result.held)
            lake.force(table, day)
            result = materialize_date(lake, engine, TRANSFORMS[table], day, now=NOW)
            assert result.skipped
    return answers


def test_a_closed_date_is_never_made_again_whatever_comes_and_whoever_asks(
    small: SmallLake, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire(small.lake, NOW)
    before = {table: [row for row in rows if row] for table, rows in content(small.lake).items()}
    versions = {table: small.lake.snapshot(table).recorded_level(CLOSED - DAY) for table in before}
    answers = everything_that_could_remake(small, engine, monkeypatch)
    assert all("is closed and stays as it is" in one and "2026-03-15" in one for one in answers)
    assert content(small.lake) == before
    assert {table: small.lake.snapshot(table).recorded_level(CLOSED - DAY) for table in before} == versions
    stale = Levels(Lake(small.lake.settings)).stale()
    assert all(day >= CLOSED for days in stale.values() for day in days)
    open_day = materialize_date(small.lake, engine, TRANSFORMS[SILVER], CLOSED, now=NOW, force=True)
    assert not open_day.skipped and not open_day.held


def test_a_late_reading_of_a_closed_date_is_quarantined_and_empties_nothing(
    small: SmallLake, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire(small.lake, NOW)
    before = content(small.lake)
    ingest = LocalIngest(small.lake, monkeypatch)
    sent = [message("sensor_reading", timestamp=at(day).isoformat()) for day in (CLOSED - DAY, date(2026, 3, 7))]
    ingest.send(*[record(None)] * small.offset, *(record(one) for one in sent))
    assert ingest.land()
    assert [row["reason"] for row in ingest.rows(QUARANTINE) if row["kafka_offset"] >= small.offset] == ["closed_date"] * 2
    make_all(small.lake, engine)
    assert content(small.lake) == before
    assert_balanced(small.lake)


def test_a_date_that_is_not_made_keeps_itself_and_all_after_it_open_and_says_why(
    small: SmallLake, engine: Engine
) -> None:
    small.ingest([{"event_time": at(date(2026, 3, 10), 13)}])
    sync_registry(small.lake, engine, now=NOW)
    done = {one.table: one for one in expire(small.lake, NOW)}
    assert closed_before(small.lake) == date(2026, 3, 10)
    assert dates(small.lake, READINGS)[0] == date(2026, 3, 9)
    assert "2026-03-10" in done[READINGS].kept or "2026-03-09" in done[READINGS].kept
    assert "is not made from its newest inputs" in done[READINGS].kept
    assert dates(small.lake, SILVER)[0] == date(2026, 3, 6)  # the open date looks six days back on it
    assert "is not made from its newest inputs" in done[SILVER].kept
    make_all(small.lake, engine)
    expire(small.lake, NOW)
    assert closed_before(small.lake) == CLOSED and dates(small.lake, SILVER)[0] == OLDEST[SILVER]
    assert_balanced(small.lake)


def test_a_date_that_a_rollback_holds_is_not_closed(small: SmallLake) -> None:
    from iot_platform.lake.snapshot import HOLDS, held_id

    lake = small.lake
    day = date(2026, 3, 12)
    lake.commit_transaction(lake.writable(SILVER), held_id(day), 1)
    lake.commit_transaction(lake.writable(SILVER), HOLDS, 1)
    done = {one.table: one for one in expire(lake, NOW)}
    assert closed_before(lake) == day and "held by a rollback" in done[READINGS].kept


def test_what_the_registry_has_not_seen_stays_in_bronze(small: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    small.ingest([{"event_time": at(date(2026, 3, 8), 13), "device_id": "new"}])
    monkeypatch.setattr(expiry, "unfinished", lambda *_: {})
    done = {one.table: one for one in expire(small.lake, NOW)}
    assert "registry has not seen it" in done[READINGS].kept and dates(small.lake, READINGS)[0] == date(2026, 3, 8)


def test_a_batch_that_landed_by_half_keeps_bronze_as_it_is(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "LANDING_SECONDS", 0.1)
    half = LocalIngest(small.lake, monkeypatch)
    half.send(*[record(None)] * small.offset, record(message("sensor_reading", timestamp=at(TODAY - DAY * 3).isoformat())))

    def die(name: str) -> None:
        if name == "ingest.after_readings":
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half.land(die)
    done = {one.table: one for one in expire(small.lake, NOW)}
    assert done[READINGS].dates == done[QUARANTINE].dates == 0
    assert "in one of both Bronze tables only" in done[READINGS].kept
    assert half.land()
    assert {one.table: one.dates for one in expire(small.lake, NOW)}[READINGS] == 8
    assert_balanced(small.lake)


def test_what_the_marts_have_not_taken_stays(small: SmallLake) -> None:
    done = {one.table: one for one in expire(small.lake, NOW, untaken=lambda: {WINDOWS: [date(2026, 3, 7)]})}
    assert dates(small.lake, WINDOWS)[0] == date(2026, 3, 7) and "the marts are not made from it" in done[WINDOWS].kept
    assert dates(small.lake, SUMMARY)[0] == OLDEST[WINDOWS]


def on(step: str, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Do this the first time that the step is passed."""
    passed: list[str] = []

    def reach(name: str) -> None:
        passed.append(name)
        if name == step and passed.count(step) == 1:
            act()

    monkeypatch.setattr(expiry, "reach", reach)
    return passed


def test_a_batch_that_lands_while_a_date_is_being_closed_is_not_left_behind(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    on("retention.before_close", lambda: small.ingest([{"event_time": at(date(2026, 3, 11), 13)}]), monkeypatch)
    assert close(small.lake, CLOSED).day == date(2026, 3, 11) == closed_before(small.lake)
    assert close(small.lake, date(2026, 3, 9)).day == date(2026, 3, 11)  # it never opens again


def test_a_batch_that_lands_while_dates_are_deleted_is_kept_and_counted(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(small.lake, CLOSED)
    on("retention.before_delete", lambda: small.ingest([{"event_time": at(TODAY)}]), monkeypatch)
    assert delete_before(small.lake, READINGS, OLDEST[READINGS]).rows == 16
    assert dates(small.lake, READINGS)[-1] == TODAY
    assert offset_ledger(small.lake).is_balanced


@pytest.mark.parametrize("nth", range(1, 7))
def test_retention_that_dies_anywhere_is_balanced_and_goes_on(
    nth: int, small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []

    def reach(name: str) -> None:
        passed.append(name)
        if len(passed) == nth * 2:
            raise RuntimeError(name)

    with monkeypatch.context() as patch:
        patch.setattr(expiry, "reach", reach)
        with pytest.raises(RuntimeError, match="retention.after"):
            expire(small.lake, NOW)
    assert_balanced(small.lake)
    expire(small.lake, NOW)
    assert {table: dates(small.lake, table)[0] for table in OLDEST} == OLDEST
    assert_balanced(small.lake)


def test_a_run_that_was_under_way_when_its_date_closed_leaves_it_as_it_is(
    small: SmallLake, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = date(2026, 3, 12)
    before = content(small.lake, day)
    force = Lake.force

    def closed_meanwhile(self: Lake, table: str, asked: date | None) -> None:
        expire(self, NOW)
        force(self, table, asked)

    monkeypatch.setattr(Lake, "force", closed_meanwhile)
    result = materialize_date(small.lake, engine, TRANSFORMS[WINDOWS], day, now=NOW, force=True)
    assert "is closed" in result.held and day not in dates(small.lake, READINGS)
    assert content(small.lake, day) == before


def test_retention_that_cannot_write_is_told_and_the_tables_are_maintained_all_the_same(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any, **_chosen: Any) -> None:
        raise LakeError("disk full")

    monkeypatch.setattr("iot_platform.lake.maintain.expire", full)
    results = {one.table: one for one in maintain(small.lake, NOW)}
    assert results["retention"].failed == "disk full" and results[READINGS].is_checkpointed


def test_the_mark_is_not_moved_by_longer_periods(small: SmallLake, make_settings: MakeSettings) -> None:
    expire(small.lake, NOW)
    longer = Lake(small.lake.settings.model_copy(update={"keep_bronze_days": 9, "keep_silver_days": 20}))
    assert not any(one.dates for one in expire(longer, NOW))
    assert closed_before(longer) == CLOSED


def test_status_shows_what_expired(small: SmallLake) -> None:
    from iot_platform.cli.status import ledger_shown, offsets_shown

    expire(small.lake, NOW)
    ledger = [line.as_json() for line in date_ledger(small.lake)]
    shown = ledger_shown(ledger)
    assert "bronze + expired = silver" in str(shown.title) and "expired" in [column.header for column in shown.columns]
    assert "expired" not in str(ledger_shown(ledger[-1:]).title)
    assert " + 18 expired: balanced" in offsets_shown(offset_ledger(small.lake).as_json())


def test_the_marts_let_go_of_what_gold_has_lost(small: SmallLake) -> None:
    import duckdb

    from iot_platform.automation.marts_sensor import lake_levels, moved
    from iot_platform.marts.sources import attach_lake

    before = lake_levels(small.lake)
    expire(small.lake, NOW)
    found = moved(lake_levels(Lake(small.lake.settings)), before)
    assert found and found.days == (date(2026, 3, 6), date(2026, 3, 7))  # a build of these dates is asked for
    assert ("gold_sensor_windows", date(2026, 3, 7)) in found.inputs
    with duckdb.connect() as connection:
        attach_lake(connection, Lake(small.lake.settings))
        ((oldest,),) = connection.execute("select min(event_date) from lake.gold.sensor_windows").fetchall()
        assert oldest == OLDEST[WINDOWS]  # and finds nothing of them


def test_what_the_published_marts_were_not_made_from_is_named(small: SmallLake) -> None:
    import duckdb

    from iot_platform.marts.untaken import untaken

    lake = small.lake
    assert untaken(lake) == {}  # no marts were ever built: nothing waits for them
    published = lake.settings.marts
    published.parent.mkdir(parents=True)
    monday = date(2026, 3, 9)
    week = sum(lake.snapshot(SILVER).recorded_level(monday + DAY * back) for back in range(7))
    with duckdb.connect(str(published)) as connection:
        connection.execute("create table _input_levels (model varchar, input varchar, event_date date, level hugeint)")
        levels = [("m", "silver_readings", monday, week)]
        for table in ("gold/sensor_windows", "gold/location_hourly"):
            snapshot = lake.snapshot(table)
            levels += [("m", snapshot.contract.view, day, snapshot.recorded_level(day)) for day in snapshot.rows_by_date]
        levels = [row for row in levels if row[1:3] != ("gold_location_hourly", date(2026, 3, 8))]
        connection.executemany("insert into _input_levels values (?, ?, ?, ?)", levels)
    found = untaken(lake)
    assert found["gold/location_hourly"] == [date(2026, 3, 8)] and "gold/sensor_windows" not in found
    assert found[SILVER] == [day for day in dates(lake, SILVER) if not monday <= day < monday + DAY * 7]
    assert found[SUMMARY] == dates(lake, SUMMARY)


def test_no_rollback_brings_back_what_has_expired(small: SmallLake) -> None:
    from iot_platform.errors import ClosedError
    from iot_platform.lake.rollback import roll_back

    expire(small.lake, NOW)
    before = content(small.lake)
    for day in (date(2026, 3, 6), CLOSED - DAY):
        with pytest.raises(ClosedError, match="is closed and stays as it is"):
            roll_back(small.lake, SILVER, day)
    assert content(small.lake) == before
