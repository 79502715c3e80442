"""Stuck is who commits nothing while records wait, and nobody else; the next try never waits for long, nor for nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iot_platform.ingest.standstill import LONGEST_PAUSE_SECONDS, Look, Standstill, patience, pause


def stood(*looks: Look) -> float:
    """The standstill at the last of these looks."""
    follower = Standstill(0.0)
    return [follower.look(look) for look in looks][-1]


def test_a_standstill_counts_from_the_last_move_while_records_wait() -> None:
    assert stood(Look(10, "a", 5)) == 0
    assert stood(Look(10, "a", 5), Look(70, "a", 9)) == 60
    assert stood(Look(10, "a", 5), Look(70, "a", 9), Look(80, "b", 9)) == 0


def test_nothing_that_waits_or_no_broker_is_no_standstill() -> None:
    assert stood(Look(10, "a", 5), Look(70, "a", 0)) == 0
    assert stood(Look(10, "a", 5), Look(600, "a", None), Look(610, "a", 5)) == 10


def test_a_worker_that_never_begins_stands_still_from_its_start() -> None:
    assert stood(Look(50, None, 1), Look(90, None, 1)) == 90


def test_a_batch_that_really_takes_long_is_let_finish_in_the_end() -> None:
    assert [patience(60, again) for again in range(7)] == [60, 120, 240, 480, 960, 960, 960]


@given(st.integers(0, 10_000))
def test_the_next_try_comes_at_once_at_first_and_never_later_than_a_minute(failures: int) -> None:
    assert 0 <= pause(failures) <= pause(failures + 1) <= LONGEST_PAUSE_SECONDS
    assert pause(0) == pause(1) == 0


def test_the_pauses_double() -> None:
    assert [pause(failures) for failures in range(1, 10)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
