"""Whatever others commit between two looks of the ledger, it tells of one moment and balances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import BRONZE_READINGS
from iot_platform.erase.bronze import erase_readings
from iot_platform.erase.derived import erase_derived
from iot_platform.erase.quarantine import erase_messages
from iot_platform.erase.trace import Trace
from iot_platform.errors import LakeError
from iot_platform.lake import Lake
from iot_platform.lake.compaction import merge
from iot_platform.lake.expiry import delete_before
from iot_platform.lake.ledger import (
    BRONZE,
    QUARANTINE,
    REDRIVEN,
    REJECTED,
    SILVER,
    Books,
    OffsetLedger,
    date_ledger,
    offset_ledger,
)
from iot_platform.lake.levels import Levels
from iot_platform.lake.maintain import SUMMARY_AFTER, summarize
from iot_platform.lake.retention import CLOSED_BEFORE, closed_number
from iot_platform.lake.stream_log import commits_of, last_stream_commit, stream_commits
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, Row, SmallLake, at
from iot_platform_tests.lake.test_ledger import copy, only

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Commit = Callable[[], Any]
D = date(2026, 3, 10)


class Busy(Lake):
    """A lake in which others commit while it is looked at: ``each`` commits just before each look from the ``first`` on."""

    def __init__(self, settings: Settings, first: int, commits: list[Commit], each: int = 1) -> None:
        super().__init__(settings)
        self.first, self.commits, self.each, self.looks = first, commits, each, 0

    @contextmanager
    def in_use(self) -> Iterator[Busy]:
        """In the end all is committed, also what no look was left for."""
        yield self
        for commit in self.commits:
            commit()

    def _look(self) -> None:
        self.looks += 1
        for _ in range(min(self.each, len(self.commits)) if self.looks >= self.first else 0):
            self.commits.pop(0)()

    def snapshot(self, table: str, version: int | None = None) -> Any:
        self._look()
        return super().snapshot(table, version)

    @contextmanager
    def reading(self, table: str) -> Iterator[DuckDBPyConnection]:
        self._look()
        with super().reading(table) as connection:
            yield connection


def groups(commits: list[Commit], size: int, shift: int) -> list[list[Commit]]:
    """The commits in their order, ``size`` at a time, the first time ``shift``."""
    starts = [0, *range(shift or size, len(commits), size)]
    return [commits[start:end] for start, end in zip(starts, [*starts[1:], len(commits)], strict=True)]


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    return SmallLake(Lake(settings))


def redriven(small: SmallLake, day: date, device: str) -> Commit:
    """The commit that brings the newest quarantined message into Bronze."""

    def commit() -> None:
        bronze = small.lake.writable(BRONZE)
        place = max(small.rows(QUARANTINE), key=lambda row: row["kafka_offset"])["kafka_offset"]
        row = small._reading({"event_time": at(day), "device_id": device}) | {"kafka_offset": place}
        small.offset -= 1
        mark = Transaction(REDRIVEN, (bronze.transaction(REDRIVEN) or 0) + 1)
        rows = pa.Table.from_pylist([row], schema=arrow_schema(BRONZE_READINGS))
        write_deltalake(bronze.delta, rows, mode="append", commit_properties=CommitProperties(app_transactions=[mark]))

    return commit


def life_of_a_date(small: SmallLake, day: date, device: str) -> list[Commit]:
    """Every kind of commit on Bronze: two batches of five readings and two refused messages, a redrive, merged files, an
    erasure, retention and a summary."""
    lake = small.lake
    readings: list[Row] = [{"event_time": at(day, hour), "device_id": device} for hour in range(5)]
    refused: list[Row] = [{"value": f'{{"id": "{device}"'.encode()}, {}]
    later = NOW + timedelta(days=20_000)  # of the commits, which are made now
    return [
        *small.commits(readings, refused), *small.commits(readings, refused), redriven(small, day, device),
        lambda: merge(lake, BRONZE, day), lambda: merge(lake, QUARANTINE, NOW.date()),
        lambda: erase_readings(lake, device), lambda: erase_messages(lake, Trace.of(device, [])),
        *small.commits(readings, refused), lambda: delete_before(lake, BRONZE, day + DAY),
        lambda: summarize(lake, BRONZE, later),
    ]  # fmt: skip


@pytest.mark.parametrize(("first", "each", "shift"), [(2, 1, 0), (3, 1, 1), (4, 1, 0), (5, 1, 1), (2, 2, 0), (2, 2, 1)])
def test_the_offsets_balance_whatever_is_committed_between_two_looks(
    small: SmallLake, first: int, each: int, shift: int
) -> None:
    small.ingest([{"event_time": at(D + DAY)}], [{}])
    commits = life_of_a_date(small, D, "device-one")
    ledgers: list[OffsetLedger] = []
    for some in groups(commits, 2, shift):
        with Busy(small.lake.settings, first, some, each).in_use() as busy:
            ledgers.append(offset_ledger(busy))
    assert [ledger for ledger in ledgers if not ledger.is_balanced] == []
    last = offset_ledger(small.lake)
    assert (last.consumed, last.redriven, last.landing, last.is_balanced) == (23, 1, 0, True)
    assert last.erased and last.expired


def test_what_bronze_has_and_quarantine_gets_next_is_landing_and_no_more_than_that(small: SmallLake) -> None:
    small.ingest([{"event_time": at(D)}], [{}])
    first, second = small.commits([{"event_time": at(D, hour)} for hour in range(3)], [{}, {}])
    first()
    assert (offset_ledger(small.lake).landing, offset_ledger(small.lake).is_balanced) == (2, True)
    Lake(small.lake.settings).writable(BRONZE).delta.delete("kafka_offset = 0")  # lost, and no part of that batch
    assert (offset_ledger(small.lake).landing, offset_ledger(small.lake).difference) == (2, 1)
    second()
    assert (offset_ledger(small.lake).landing, offset_ledger(small.lake).difference) == (0, 1)


def made(small: SmallLake, table: str, day: date) -> Commit:
    """The commit that makes a date of Silver from what Bronze has then; what is below 0 is rejected."""

    def commit() -> None:
        rows = [row for row in small.rows(BRONZE) if row["event_date"] == day]
        chosen = [row for row in rows if (row["value"] < 0) == (table == REJECTED)]
        level = Levels(small.lake).needed(TRANSFORMS[table], day)
        small.put(table, day, only([copy(row, reason="out_of_range") for row in chosen], table), level=level)

    return commit


def closed(small: SmallLake, before: date) -> Commit:
    return lambda: small.lake.commit_transaction(small.lake.writable(BRONZE), CLOSED_BEFORE, closed_number(before))


@pytest.mark.parametrize(("first", "each", "shift"), [(2, 1, 0), (4, 1, 1), (2, 4, 2), (2, 2, 3), (3, 4, 3)])
def test_each_date_balances_whatever_is_committed_between_two_looks(
    small: SmallLake, first: int, each: int, shift: int
) -> None:
    lake = small.lake
    readings = [{"event_time": at(D, hour), "device_id": f"d{hour % 2}", "value": float(hour % 3 - 1)} for hour in range(6)]
    small.ingest(readings)
    silver, rejected = made(small, SILVER, D), made(small, REJECTED, D)
    commits: list[Commit] = [
        silver, rejected, small.commits(readings)[0], silver, rejected,
        lambda: erase_readings(lake, "d1"), silver, rejected,  # a run is faster than the erasure's next commits
        lambda: erase_derived(lake, REJECTED, "d1"), lambda: erase_derived(lake, SILVER, "d1"),
        small.commits(readings)[0], silver, rejected,
        closed(small, D + DAY), lambda: delete_before(lake, BRONZE, D + DAY),
        lambda: delete_before(lake, REJECTED, D + DAY), lambda: delete_before(lake, SILVER, D + DAY),
    ]  # fmt: skip
    ledgers = date_ledger(lake)
    for some in groups(commits, 4, shift):
        with Busy(lake.settings, first, some, each).in_use() as busy:
            ledgers += date_ledger(busy)
    assert ledgers and [line for line in ledgers if not line.is_balanced] == []
    assert date_ledger(lake) == []


def test_a_row_that_vanished_during_an_erasure_still_shows_when_that_is_done(small: SmallLake) -> None:
    small.ingest([{"event_time": at(D, hour), "device_id": f"d{hour % 2}"} for hour in range(6)])
    erase_readings(small.lake, "d1")
    small.put(SILVER, D, [], level=Levels(small.lake).needed(TRANSFORMS[SILVER], D))  # all six are gone, three were erased
    small.put(REJECTED, D, [], level=Levels(small.lake).needed(TRANSFORMS[REJECTED], D))
    (line,) = date_ledger(small.lake)
    assert (line.pending, line.difference) == (3, 3)


def test_a_look_that_others_never_leave_alone_says_so(small: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iot_platform.lake.moment.LOOKS", 3)

    def commit() -> None:
        small.lake.commit_transaction(small.lake.writable(BRONZE), "one/more", 1 + small.lake.snapshot(BRONZE).version)

    with pytest.raises(LakeError, match="leave no moment"):
        Books.of(Busy(small.lake.settings, 1, [commit] * 20))


def test_the_log_of_an_opened_version_ends_with_it(small: SmallLake) -> None:
    small.ingest([{"event_time": at(D)}])
    opened = Lake(small.lake.settings).snapshot(BRONZE).delta
    before, last, told = commits_of(opened), last_stream_commit(opened), stream_commits(opened)
    assert [commit["version"] for commit in before] == [1, 0]
    small.ingest([{"event_time": at(D)}])
    small.ingest([{"event_time": at(D)}])
    assert (commits_of(opened), last_stream_commit(opened), stream_commits(opened)) == (before, last, told)
    assert commits_of(opened, 1) == before[:1]


def test_a_log_that_was_summarized_meanwhile_is_opened_again(small: SmallLake) -> None:
    for _ in range(3):
        small.ingest([{"event_time": at(D)}])
    later = stream_commits(small.lake.snapshot(BRONZE).delta)[-1].at + SUMMARY_AFTER
    busy = Busy(small.lake.settings, 4, [lambda: summarize(small.lake, BRONZE, later)])
    opened = busy.snapshot(BRONZE).delta
    assert Books.of(busy).bronze.version == opened.version() + 1 and len(Books.of(busy).commits) == 1
