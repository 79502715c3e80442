"""A redrive brings each mended message into Bronze once, whoever else writes, wherever it dies; the ledger balances."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from iot_platform.contracts.rebuild import rebuild_message
from iot_platform.contracts.timestamps import EPOCH
from iot_platform.contracts.wire import CONTRACTS
from iot_platform.errors import LakeError
from iot_platform.ingest import candidates
from iot_platform.ingest import redrive as redrives
from iot_platform.ingest.redrive import RedriveResult, redrive
from iot_platform.lake import Lake
from iot_platform.lake.ledger import offset_ledger
from iot_platform.lake.levels import bronze_level, newest_times
from iot_platform.lake.maintain import maintain
from iot_platform.lake.quarantine import Chosen, MessageId
from iot_platform.settings import Settings
from iot_platform_tests.contracts.messages import ARRIVAL_US, EVENT_US, TOPIC_OF, message
from iot_platform_tests.ingest.landed import Landed

DAY = date(2026, 11, 19)
LATER = datetime(2026, 11, 20, 8, tzinfo=UTC)
EVENT = "device_event"
TOPIC = TOPIC_OF[EVENT]
ALL = Chosen()
MINUTE_US = 60_000_000


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


@pytest.fixture
def landed(lake: Lake) -> Landed:
    return Landed(lake)


@pytest.fixture
def mend(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on a device may say that it is under maintenance."""

    def mended() -> None:
        contract = CONTRACTS[EVENT]
        fields = tuple(
            replace(field, allowed=(*field.allowed, "maintenance")) if field.column == "status" else field
            for field in contract.fields
        )
        monkeypatch.setitem(CONTRACTS, EVENT, replace(contract, fields=fields))

    return mended


def event(number: int, status: str = "maintenance", moment_us: int = EVENT_US, **changes: Any) -> dict[str, Any]:
    moment = EPOCH + timedelta(microseconds=moment_us)
    said = {"event_id": f"00000000-0000-4000-8000-{number:012d}", "timestamp": moment.isoformat(), "status": status}
    return message(EVENT, **said | changes)


def rows(lake: Lake, table: str) -> pl.DataFrame:
    frame = pl.from_arrow(lake.snapshot(table).delta.to_pyarrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.sort("topic", "kafka_partition", "kafka_offset")


def again(lake: Lake, chosen: Chosen = ALL, **other: Any) -> RedriveResult:
    return redrive(lake.settings, chosen, now=LATER, **other)


def test_a_mended_message_goes_to_bronze_as_it_came(lake: Lake, landed: Landed, mend: Callable[[], None]) -> None:
    sent = [event(n) for n in range(3)]
    landed.land([event(9, "normal"), *sent, b"{"], EVENT)
    before = rows(lake, "bronze/quarantine")
    assert again(lake).as_json()["refused"] == {"not_json": 1, "wrong_type": 3}  # the contract is as it was
    assert offset_ledger(lake).redriven == 0
    mend()
    result = again(lake)

    assert result.as_json() == {
        "chosen": 4, "redriven": 3, "readings": 3, "late": 0, "healed": 0, "marked": 3, "unmarked": 0,
        "refused": {"not_json": 1}, "readings_by_date": {"2026-11-19": 3},
    }  # fmt: skip
    brought = rows(lake, "bronze/readings").filter(pl.col("status") == "maintenance")
    held = before.filter(pl.col("reason") == "wrong_type")
    same = ["topic", "kafka_partition", "kafka_offset", "kafka_timestamp", "batch_id", "ingest_seq"]
    assert brought.select(same).equals(held.select(same))
    assert [rebuild_message([row]) for row in brought.iter_rows(named=True)] == sent
    after = rows(lake, "bronze/quarantine")
    assert after["redriven_at"].to_list() == [LATER] * 3 + [None]
    assert after.drop("redriven_at").equals(before.drop("redriven_at"))  # nothing else of it moved
    ledger = offset_ledger(lake)
    assert (ledger.consumed, ledger.bronze_messages, ledger.quarantined, ledger.redriven) == (5, 4, 4, 3)
    assert ledger.is_balanced


def test_a_second_redrive_finds_nothing_to_do(lake: Lake, landed: Landed, mend: Callable[[], None]) -> None:
    landed.land([event(n) for n in range(3)], EVENT)
    mend()
    again(lake)
    versions = [lake.snapshot(table).version for table in ("bronze/readings", "bronze/quarantine")]
    assert again(lake).chosen == 0
    assert [lake.snapshot(table).version for table in ("bronze/readings", "bronze/quarantine")] == versions


def test_a_dry_run_tells_the_same_and_changes_nothing(lake: Lake, landed: Landed, mend: Callable[[], None]) -> None:
    landed.land([event(n) for n in range(3)] + [b"{"], EVENT)
    mend()
    versions = [lake.snapshot(table).version for table in ("bronze/readings", "bronze/quarantine")]
    dry = again(lake, dry_run=True)
    assert [lake.snapshot(table).version for table in ("bronze/readings", "bronze/quarantine")] == versions
    assert dry.marked == 0
    assert replace(dry, marked=3) == again(lake)


@pytest.mark.parametrize(
    ("chosen", "brought"),
    [
        (Chosen(reasons=frozenset({"wrong_type"})), 4),
        (Chosen(reasons=frozenset({"not_json"})), 0),
        (Chosen(first=DAY + timedelta(days=1)), 2),
        (Chosen(last=DAY), 2),
        (Chosen(topics=frozenset({"iot.readings"})), 0),
        (Chosen(ids=frozenset({MessageId(TOPIC, 0, 1), MessageId(TOPIC, 0, 2), MessageId("other", 0, 0)})), 2),
    ],
)
def test_only_the_chosen_messages_are_redriven(
    lake: Lake, landed: Landed, mend: Callable[[], None], chosen: Chosen, brought: int
) -> None:
    landed.land([event(0), event(1)], EVENT)
    landed.land([event(2), event(3)], EVENT, arrival_us=ARRIVAL_US + 24 * 60 * MINUTE_US)
    mend()
    assert again(lake, chosen).redriven == brought
    assert rows(lake, "bronze/quarantine")["redriven_at"].is_not_null().sum() == brought


def test_lateness_is_judged_by_earlier_offsets_of_the_partition(
    lake: Lake, landed: Landed, mend: Callable[[], None]
) -> None:
    hour = 60 * MINUTE_US
    ahead = EVENT_US - 2 * hour
    landed.land([event(0, moment_us=ahead - hour)], EVENT)  # nothing was before it
    landed.land([event(1, "normal", moment_us=ahead)], EVENT)
    landed.land([event(2, moment_us=ahead - hour), event(3, moment_us=ahead - 9 * MINUTE_US)], EVENT)
    landed.land([event(4, moment_us=ahead - hour)], EVENT, headers=[("replayed", b"1")])
    landed.land([event(5, "normal", moment_us=ahead + hour)], EVENT)  # later offsets say nothing
    landed.land([event(6, moment_us=ahead - hour)], EVENT, partition=1)  # nor do other partitions
    mend()
    assert again(lake).late == 1
    late = rows(lake, "bronze/readings").filter(pl.col("is_late"))
    assert late["event_id"].str.slice(-1).to_list() == ["2"]


def test_what_is_redriven_counts_for_what_is_redriven_after_it(
    lake: Lake, landed: Landed, mend: Callable[[], None]
) -> None:
    landed.land([event(0), event(1, moment_us=EVENT_US - 60 * MINUTE_US)], EVENT)
    mend()
    assert again(lake).late == 1


def test_levels_and_clocks_grow_with_a_redrive(lake: Lake, landed: Landed, mend: Callable[[], None]) -> None:
    landed.land([message("sensor_reading")])
    landed.land([event(0), event(1, moment_us=EVENT_US - 24 * 60 * MINUTE_US)], EVENT)
    before = lake.snapshot("bronze/readings")
    mend()
    again(lake)
    after = lake.snapshot("bronze/readings")
    assert bronze_level(after, DAY) > bronze_level(before, DAY)
    assert bronze_level(after, DAY - timedelta(days=1)) > 0
    assert EVENT not in newest_times(before.delta)
    assert newest_times(after.delta)[EVENT] == EVENT_US
    landed.land([event(2, "normal", moment_us=EVENT_US - MINUTE_US)], EVENT)
    assert newest_times(lake.snapshot("bronze/readings").delta)[EVENT] == EVENT_US  # time does not go back


class Death(Exception):
    """Stands for whatever ends a process between two steps."""


@pytest.mark.parametrize("place", ["redrive.before_bronze", "redrive.after_bronze"])
def test_a_redrive_that_died_is_healed_by_the_next(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    landed.land([event(n) for n in range(5)] + [event(9, "normal")], EVENT)
    mend()
    monkeypatch.setattr(candidates, "MOST_ROWS", 2)

    def die(name: str) -> None:
        if name == place:
            raise Death

    with monkeypatch.context() as dying:
        dying.setattr("iot_platform.ingest.redrive.reach", die)
        with pytest.raises(Death):
            again(lake)
    between = offset_ledger(lake)
    assert between.is_balanced
    assert between.redriven == (2 if place.endswith("after_bronze") else 0)
    healed = again(lake)
    assert (healed.redriven + healed.healed, healed.healed, healed.marked) == (5, between.redriven, 5)
    assert_each_once(lake, 6)


def assert_each_once(lake: Lake, messages: int) -> None:
    readings = rows(lake, "bronze/readings")
    assert readings.select("topic", "kafka_partition", "kafka_offset", "metric").is_duplicated().sum() == 0
    assert readings.select("topic", "kafka_partition", "kafka_offset").n_unique() == messages
    ledger = offset_ledger(lake)
    assert ledger.is_balanced, ledger
    held = rows(lake, "bronze/quarantine")
    assert ledger.redriven == held["redriven_at"].is_not_null().sum()


def test_redrives_ingestion_and_maintenance_at_once_lose_and_double_nothing(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in range(0, 60, 10):
        landed.land([event(n) for n in range(first, first + 10)] + [b"{"], EVENT)
    mend()
    monkeypatch.setattr(candidates, "MOST_ROWS", 7)
    results: list[RedriveResult] = []
    failures: list[BaseException] = []
    barrier = threading.Barrier(4)

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                barrier.wait(30)
                work()
            except BaseException as error:
                failures.append(error)

        return run

    def redrives() -> None:
        results.append(redrive(lake.settings, ALL, now=LATER))

    def ingests() -> None:
        for number in range(8):
            landed.land([event(1_000 + number, "normal"), b"["], EVENT)

    def maintains() -> None:
        for _ in range(3):
            maintain(Lake(lake.settings), LATER + timedelta(days=3))

    threads = [threading.Thread(target=guarded(work)) for work in (redrives, redrives, ingests, maintains)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert sum(result.redriven for result in results) == 60
    assert again(lake).redriven == 0  # and marks what a writer left no room for
    assert_each_once(lake, 68)


def test_another_redrive_and_a_batch_between_look_and_commit_double_nothing(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    landed.land([event(0), event(1), event(2)], EVENT)
    mend()
    others: list[RedriveResult] = []

    def overtake(name: str) -> None:
        if not others and name == "redrive.before_bronze":
            others.append(RedriveResult())
            others.append(again(lake, Chosen(ids=frozenset({MessageId(TOPIC, 0, 1)}))))
            landed.land([event(9, "normal", moment_us=EVENT_US + 20 * MINUTE_US)], EVENT)

    monkeypatch.setattr("iot_platform.ingest.redrive.reach", overtake)
    mine = again(lake)
    assert (others[-1].redriven, mine.redriven, mine.healed, mine.marked) == (1, 2, 1, 2)
    assert_each_once(lake, 4)


def test_of_two_redrives_at_once_the_slower_knows_that_all_is_marked(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    landed.land([event(0), event(1), event(2)], EVENT)
    mend()
    others: list[RedriveResult] = []

    def overtake(name: str) -> None:
        if not others and name == "redrive.after_bronze":
            others.append(RedriveResult())
            others.append(again(lake))

    monkeypatch.setattr("iot_platform.ingest.redrive.reach", overtake)
    mine = again(lake)
    assert (others[-1].healed, others[-1].marked, others[-1].unmarked) == (3, 3, 0)
    assert (mine.redriven, mine.marked, mine.unmarked) == (3, 0, 0)
    assert_each_once(lake, 3)


def test_what_others_leave_no_room_to_mark_is_told_and_marked_by_the_next(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    landed.land([event(0), event(1)], EVENT)
    mend()
    with monkeypatch.context() as crowded:
        crowded.setattr("iot_platform.ingest.marking.ATTEMPTS", 0)
        mine = again(lake)
    assert (mine.redriven, mine.marked, mine.unmarked) == (2, 0, 2)
    healed = again(lake)
    assert (healed.healed, healed.marked, healed.unmarked) == (2, 2, 0)
    assert_each_once(lake, 2)


@pytest.mark.parametrize("at_once", [1, 4, 1_000])
def test_bronze_is_looked_through_once_for_many_dates_of_arrival(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    day_us = 24 * 60 * MINUTE_US
    for day in range(4):
        moments = [EVENT_US + day * day_us, EVENT_US + day * day_us - 60 * MINUTE_US]
        landed.land([event(3 * day, "normal", moment_us=moments[0])], EVENT, arrival_us=ARRIVAL_US + day * day_us)
        held = [event(3 * day + n, moment_us=moment) for n, moment in enumerate(moments, start=1)]
        landed.land(held, EVENT, arrival_us=ARRIVAL_US + day * day_us)
    mend()
    looks: list[int] = []
    kept = redrives.Earlier

    def counted(*arguments: Any) -> Any:
        looks.append(1)
        return kept(*arguments)

    monkeypatch.setattr(redrives, "Earlier", counted)
    monkeypatch.setattr(candidates, "OFFSETS_AT_ONCE", at_once)
    result = again(lake)
    assert (result.chosen, result.redriven, result.marked, result.late) == (8, 8, 8, 4)
    assert len(looks) == {1: 4, 4: 2, 1_000: 1}[at_once]
    assert_each_once(lake, 12)


def test_a_dry_run_makes_no_table_and_no_column(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    landed.land([event(0)], EVENT)
    mend()
    with monkeypatch.context() as watched:
        watched.setattr(Lake, "writable", lambda *_: pytest.fail("opened to be written"))
        assert again(lake, dry_run=True).redriven == 1
    shutil.rmtree(lake.path("bronze/readings"))
    with pytest.raises(LakeError, match="no bronze/readings"):
        again(lake, dry_run=True)
    assert not lake.exists("bronze/readings")


def test_a_batch_that_landed_by_half_before_the_contract_was_mended_is_judged_as_it_was(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str) -> None:
        if name == "ingest.after_readings":
            raise Death

    batch = [event(0, "normal"), event(1), b"{", event(2, "normal"), event(3)]
    with monkeypatch.context() as dying:
        dying.setattr("iot_platform.ingest.sink.reach", die)
        with pytest.raises(Death):
            landed.land(batch, EVENT)
    assert len(rows(lake, "bronze/quarantine")) == 0
    mend()
    landed.repeat(batch, EVENT)
    held = rows(lake, "bronze/quarantine").select("kafka_offset", "reason").rows()
    assert held == [(1, "wrong_type"), (2, "not_json"), (4, "wrong_type")]
    assert offset_ledger(lake).is_balanced
    landed.land([event(5)], EVENT)  # goes on by the contracts of today
    assert again(lake).redriven == 2
    assert_each_once(lake, 5)


def test_what_a_date_that_was_closed_would_get_stays_in_quarantine(
    lake: Lake, landed: Landed, mend: Callable[[], None]
) -> None:
    from iot_platform.lake.retention import CLOSED_BEFORE, closed_number

    landed.land([event(0), event(1, moment_us=EVENT_US - 24 * 60 * MINUTE_US)], EVENT)
    mend()
    lake.commit_transaction(lake.writable("bronze/readings"), CLOSED_BEFORE, closed_number(DAY))
    result = again(lake)
    assert (result.redriven, dict(result.refused)) == (1, {"closed_date": 1})
    assert rows(lake, "bronze/readings")["event_date"].to_list() == [DAY]


def test_a_date_closed_during_the_redrive_is_respected(
    lake: Lake, landed: Landed, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from iot_platform.lake.retention import CLOSED_BEFORE, closed_number

    landed.land([event(0)], EVENT)
    mend()
    closed: list[str] = []

    def close(name: str) -> None:
        if not closed:
            closed.append(name)
            number = closed_number(DAY + timedelta(days=1))
            lake.commit_transaction(lake.writable("bronze/readings"), CLOSED_BEFORE, number)

    monkeypatch.setattr("iot_platform.ingest.redrive.reach", close)
    assert again(lake).as_json()["refused"] == {"closed_date": 1}
    assert closed == ["redrive.before_bronze"]
    assert offset_ledger(lake).is_balanced


def test_an_erased_device_does_not_come_back(lake: Lake, landed: Landed, mend: Callable[[], None]) -> None:
    from iot_platform.lake.erasures import Erasure, write_erasure
    from iot_platform.lake.tombstones import ensure_key, fingerprint_of, hash_of, put_in_force

    landed.land([event(0, device_id="gone"), event(1)], EVENT)
    mend()
    key = ensure_key(lake.settings)
    write_erasure(lake, Erasure(0, hash_of("gone", key), fingerprint_of(key), LATER, None, "{}", None, None, "test"))
    put_in_force(lake, 1)
    result = again(lake)
    assert (result.redriven, dict(result.refused)) == (1, {"erased_device": 1})


def test_large_payloads_are_read_a_few_at_a_time(lake: Lake, landed: Landed, mend: Callable[[], None]) -> None:
    landed.land([event(0), b"x" * (3 << 20), event(1), b"y" * (3 << 20)], EVENT)
    mend()
    result = again(lake)
    assert (result.redriven, dict(result.refused)) == (2, {"too_large": 2})
