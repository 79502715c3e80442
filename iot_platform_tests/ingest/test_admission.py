"""Whatever is closed, erased, or dies while a batch lands: each message ends in exactly one of the two tables."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iot_platform.contracts.parse import KafkaRecord
from iot_platform.errors import LakeError
from iot_platform.ingest.admission import CLOSED_BEFORE, is_of_erased, read_admission
from iot_platform.ingest.batch import BatchRules
from iot_platform.ingest.position import QUARANTINE, READINGS, read_position
from iot_platform.lake import Lake
from iot_platform.lake.erasures import Erasure, write_erasure
from iot_platform.lake.retention import closed_before, closed_number
from iot_platform.lake.tombstones import Tombstones, ensure_key, fingerprint_of, hash_of, put_in_force
from iot_platform.settings import Settings
from iot_platform_tests.contracts.messages import RULES, message, record
from iot_platform_tests.ingest.local_sink import Died, LocalIngest

TOPIC = "iot.sensor-readings"
TODAY = date(2026, 11, 19)
DAY = timedelta(days=1)


def sent(days_ago: int = 0, device: str = "d1") -> KafkaRecord:
    return record(message("sensor_reading", sensor_id=device, timestamp=f"{TODAY - DAY * days_ago}T10:00:00Z"))


def broken(device: str = "d1") -> KafkaRecord:
    """Names its device, and is cut short."""
    return record(f'{{"sensor_id": "{device}", "timest', key=device.encode())


def close(lake: Lake, day: date) -> None:
    lake.commit_transaction(lake.writable(READINGS), CLOSED_BEFORE, closed_number(day))


def erase(lake: Lake, device: str) -> None:
    """The tombstone alone, as the first step of an erasure puts it."""
    key = ensure_key(lake.settings)
    when = datetime(2026, 11, 19, tzinfo=UTC)
    row = Erasure(0, hash_of(device, key), fingerprint_of(key), when, None, "{}", None, None, "t")
    put_in_force(lake, write_erasure(lake, row).number)


@pytest.fixture
def ingest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> LocalIngest:
    return LocalIngest(Lake(settings), monkeypatch)


def at(step: str, act: Callable[[], Any]) -> Callable[[str], None]:
    """Do this the first time that the step is reached."""
    waiting = [act]

    def on_step(name: str) -> None:
        if name == f"ingest.{step}" and waiting:
            waiting.pop()()

    return on_step


def die() -> None:
    raise Died


def reasons(ingest: LocalIngest) -> dict[int, str]:
    return {row["kafka_offset"]: row["reason"] for row in ingest.rows(QUARANTINE)}


def test_a_lake_without_closed_dates_and_tombstones_lets_in_all_that_parses(ingest: LocalIngest) -> None:
    ingest.send(sent(), sent(3000), broken())
    assert ingest.land()
    in_force = read_admission(ingest.lake)
    assert in_force.admission.is_open and BatchRules(RULES).is_open and closed_before(ingest.lake) is None
    assert (ingest.offsets(READINGS), reasons(ingest)) == ([0, 1], {2: "not_json"})


def test_a_closed_date_and_an_erased_device_are_refused_and_nothing_of_the_device_is_kept(ingest: LocalIngest) -> None:
    close(ingest.lake, TODAY - DAY)
    erase(ingest.lake, "gone")
    ingest.send(sent(2), sent(1), sent(0, "gone"), broken("gone"), sent(2, "gone"), broken())
    assert ingest.land()
    assert ingest.offsets(READINGS) == [1]
    assert reasons(ingest) == {
        0: "closed_date", 2: "erased_device", 3: "erased_device", 4: "erased_device", 5: "not_json",
    }  # fmt: skip
    for row in ingest.rows(QUARANTINE):
        if row["reason"] == "erased_device":
            assert (row["key"], row["value"], row["headers"]) == (None, None, [])
            assert "gone" not in row["detail"]
        else:
            assert row["value"] and row["key"]
    assert "2026-11-18" in next(row["detail"] for row in ingest.rows(QUARANTINE) if row["reason"] == "closed_date")


@pytest.mark.parametrize("step", ["before_files", "after_files", "before_commits"])
def test_a_date_that_closes_while_a_batch_is_in_flight_gets_nothing_more(ingest: LocalIngest, step: str) -> None:
    ingest.send(sent(5), sent(), broken())
    assert ingest.land(at(step, lambda: close(ingest.lake, TODAY)))
    assert (ingest.offsets(READINGS), reasons(ingest)) == ([1], {0: "closed_date", 2: "not_json"})
    told = read_position(ingest.lake).turned_away
    assert [told.reason((TOPIC, 0), offset) for offset in range(4)] == ["closed_date", None, "not_json", None]


def test_what_landed_before_its_date_closed_is_in_bronze_only(ingest: LocalIngest) -> None:
    ingest.send(sent(5), broken())
    assert not ingest.land(at("after_readings", die))
    close(ingest.lake, TODAY)
    assert ingest.land()
    assert (ingest.offsets(READINGS), reasons(ingest)) == ([0], {1: "not_json"})


def test_what_was_refused_by_readings_goes_to_quarantine_though_nothing_else_is_known(ingest: LocalIngest) -> None:
    close(ingest.lake, TODAY)
    ingest.send(sent(5), sent())
    assert not ingest.land(at("after_readings", die))
    ingest.new_generation()
    ingest.send(sent(5))
    assert ingest.land()
    assert (ingest.offsets(READINGS), reasons(ingest)) == ([1], {0: "closed_date", 2: "closed_date"})


def test_a_second_generation_that_dies_too_leaves_both_judgements_to_the_third(ingest: LocalIngest) -> None:
    ingest.send(sent(5), sent(5))
    assert not ingest.land(at("after_readings", die))  # both are in Bronze, and open
    close(ingest.lake, TODAY)
    ingest.new_generation()
    ingest.send(sent(5), sent())
    assert not ingest.land(at("after_readings", die))  # the third was refused, by another admission
    told = read_position(ingest.lake).turned_away
    assert [told.reason((TOPIC, 0), offset) for offset in range(4)] == [None, None, "closed_date", None]
    close(ingest.lake, TODAY + DAY)
    ingest.new_generation()
    ingest.send(sent())
    assert ingest.land()
    assert (ingest.offsets(READINGS), reasons(ingest)) == ([0, 1, 3], {2: "closed_date", 4: "closed_date"})
    ingest.send(broken())
    assert ingest.land()
    assert read_position(ingest.lake).turned_away.reason((TOPIC, 0), 4) is None  # what both tables have is told no more


def test_a_device_erased_between_both_commits_leaves_no_payload_in_quarantine(ingest: LocalIngest) -> None:
    close(ingest.lake, TODAY)
    ingest.send(sent(0, "gone"), sent(5, "gone"), broken("gone"), sent(5))
    steps: list[str] = []

    def on_step(name: str) -> None:
        steps.append(name)
        if name == "ingest.after_readings" and steps.count(name) == 1:
            erase(ingest.lake, "gone")

    assert ingest.land(on_step)
    # The reading landed before the erasure, which takes it out itself: it must not be in quarantine too.
    assert ingest.offsets(READINGS) == [0]
    assert reasons(ingest) == {1: "erased_device", 2: "erased_device", 3: "closed_date"}
    assert b"gone" not in b"".join(row["value"] or b"" for row in ingest.rows(QUARANTINE))
    assert steps.count("ingest.before_commits") == 2


def test_what_closes_without_an_end_stops_the_batch_with_one_line(ingest: LocalIngest) -> None:
    ingest.send(sent())
    days = iter(range(1000))

    def on_step(name: str) -> None:
        if name == "ingest.before_commits":
            close(ingest.lake, TODAY - DAY * (2000 - next(days)))

    with pytest.raises(LakeError, match="closed or devices erased all the time"):
        ingest.land(on_step)
    assert ingest.land() and ingest.offsets(READINGS) == [0]


def test_lateness_is_the_same_when_a_batch_is_judged_again(ingest: LocalIngest) -> None:
    ingest.send(sent(), sent(1), sent(1))
    assert ingest.land(at("before_commits", lambda: close(ingest.lake, TODAY - DAY * 3)))
    assert [row["is_late"] for row in sorted(ingest.rows(READINGS), key=lambda row: row["kafka_offset"])] == [
        False, True, True,
    ]  # fmt: skip


def test_an_erased_device_is_known_by_key_by_any_text_and_by_escaped_text() -> None:
    key = b"k"
    stones = Tombstones((hash_of("gähn\t1", key),), key)
    assert is_of_erased(record(b"{", key="gähn\t1".encode()), stones)
    assert is_of_erased(record(b'["g\\u00e4hn\\t1"'), stones)
    assert not is_of_erased(record(b'["g\\xhn\\t1"'), stones)
    assert not is_of_erased(record(None, key=None), stones)
    assert not is_of_erased(record(b"{", key="gähn\t1".encode()), Tombstones())


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b'{"sensor_id": "dev-1', []), (b'{"sensor_id": "dev-1"', []), (b"sensor_id=dev-1;value=3", []),
        (b"<id>dev-1</id>", []), (b"{'id':'dev-1'", []), (b"id:dev-1,", []), (b'"{\\"sensor_id\\":\\"dev-1\\"', []),
        (b'["gateway dev-1 is away"', []), (b"\xff dev-1. \xff", []), (b'{"a": "x, "id": "dev-1"}', []),
        (b'{"dev-1": {', []),
        (b"{", [("from", b"dev-1")]), (b"{", [("path", b"via dev-1")]), (b"{", [("dev-1", None)]), (b"dev-1", []),
    ],
)  # fmt: skip
def test_an_erased_device_is_known_wherever_a_torn_message_names_it(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    stones = Tombstones((hash_of("dev-1", b"k"),), b"k")
    assert is_of_erased(record(value)._replace(headers=headers), stones)


def test_a_torn_message_that_only_resembles_an_erased_device_is_kept() -> None:
    names = ("dev-1", "value", "413", "sensor_reading", "a b")
    stones = Tombstones(tuple(hash_of(name, b"k") for name in names), b"k")
    kept = [b'{"sensor_id": "dev-10', b'{"sensor_id": "hall/dev-1"', b'{"value": 413', b"room 413", b"my-dev-1", b"dev-1-b"]
    headers = [("contract", b"sensor_reading"), ("n", b"4")]
    assert [value for value in kept if is_of_erased(record(value)._replace(headers=headers), stones)] == []
    named = [b'["413"', b'["a b', b'["value"', b'{"id": "a b"']
    assert [value for value in named if not is_of_erased(record(value), stones)] == []
    # However large, it costs a bounded time, and what stands in front is found.
    many = b'["dev-1", ' + b",".join(b"d%d" % n for n in range(100_000))
    assert is_of_erased(record(many), stones) and not is_of_erased(record(many[9:] * 2), stones)


DEVICES = ("d1", "d2", "d3")
ONE = st.one_of(
    st.builds(sent, st.integers(0, 6), st.sampled_from(DEVICES)), st.builds(broken, st.sampled_from(DEVICES))
)
CHANGE = st.one_of(
    st.none(),
    st.tuples(st.just("close"), st.integers(0, 7)),
    st.tuples(st.just("erase"), st.sampled_from(DEVICES)),
    st.tuples(st.just("die"), st.none()),
)
ROUND = st.tuples(
    st.lists(ONE, max_size=4),
    st.booleans(),
    st.dictionaries(st.sampled_from(["before_files", "before_commits", "after_readings", "after_quarantine"]), CHANGE),
)


@hypothesis_settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rounds=st.lists(ROUND, min_size=1, max_size=5))
def test_any_interleaving_keeps_each_message_in_exactly_one_table(
    rounds: list[Any], make_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as patch:
        lake = Lake(make_settings(home=Path(folder)))
        ingest = LocalIngest(lake, patch)
        barred: list[tuple[Callable[[dict[str, Any]], bool], int]] = []  # what may not grow any more, and how many it has

        def count(wrong: Callable[[dict[str, Any]], bool]) -> int:
            return sum(map(wrong, ingest.rows(READINGS)))

        def bar(wrong: Callable[[dict[str, Any]], bool]) -> None:
            barred.append((wrong, count(wrong)))

        def act(change: tuple[str, Any]) -> None:
            kind, what = change
            if kind == "die":
                raise Died
            if kind == "close":
                day = TODAY - DAY * what
                if (known := closed_before(lake)) is None or known < day:
                    close(lake, day)
                    bar(lambda row: row["event_date"] < day)
            else:
                erase(lake, what)
                bar(lambda row: row["device_id"] == what)

        for records, is_lost, changes in rounds:
            ingest.send(*records)
            if is_lost:
                ingest.new_generation()

            def on_step(name: str, waiting: dict[str, Any] = dict(changes)) -> None:  # noqa: B006  # popped once each
                if change := waiting.pop(name.partition(".")[2], None):
                    act(change)

            ingest.land(on_step)
            assert all(count(wrong) == known for wrong, known in barred)
        assert ingest.land()
        both = sorted(ingest.offsets(READINGS) + ingest.offsets(QUARANTINE))
        assert both == list(range(len(ingest.log)))
        for row in ingest.rows(QUARANTINE):
            assert (row["reason"] == "erased_device") == (row["value"] is None)

