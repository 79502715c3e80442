"""A batch died between its two commits, and something was mended, erased or closed before it was finished.

Each message ends in exactly one of the two tables, for the reason that was true when its readings were committed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_platform.contracts.fields import Reading
from iot_platform.contracts.parse import KafkaRecord, ParseRules, parse_record
from iot_platform.contracts.refusal import Refusal
from iot_platform.contracts.wire import CONTRACTS
from iot_platform.erase.bronze import erase_readings
from iot_platform.erase.trace import Trace
from iot_platform.ingest import batch as batches
from iot_platform.ingest.position import QUARANTINE, READINGS, read_position
from iot_platform.ingest.turned_away import Marks, Piece, TurnedAway
from iot_platform.lake import Lake
from iot_platform.lake.ledger import offset_ledger
from iot_platform.settings import Settings
from iot_platform_tests.contracts.messages import message, record
from iot_platform_tests.ingest.local_sink import LocalIngest
from iot_platform_tests.ingest.test_admission import DAY, TODAY, at, close, die, erase, reasons

EVENT = "device_event"
TOPIC = "iot.device-events"


@pytest.fixture
def ingest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> LocalIngest:
    return LocalIngest(Lake(settings), monkeypatch)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """From now on the contract of events allows these words only."""

    def allowed(*words: str) -> None:
        contract = CONTRACTS[EVENT]
        fields = tuple(replace(one, allowed=words) if one.column == "status" else one for one in contract.fields)
        monkeypatch.setitem(CONTRACTS, EVENT, replace(contract, fields=fields))

    return allowed


def event(status: str = "normal", device: str = "d1", days_ago: int = 0) -> KafkaRecord:
    moment = f"{TODAY - DAY * days_ago}T10:00:00Z"
    return record(message(EVENT, status=status, device_id=device, timestamp=moment), EVENT)


def half(ingest: LocalIngest) -> None:
    assert not ingest.land(at("after_readings", die))


def assert_each_once(ingest: LocalIngest, readings: list[int], refused: dict[int, str]) -> None:
    assert (ingest.offsets(READINGS), reasons(ingest)) == (readings, refused)
    ledger = offset_ledger(ingest.lake)
    assert ledger.is_balanced and ledger.consumed == len(ingest.log)


@pytest.mark.parametrize("deaths", [0, 1, 2])
def test_a_message_refused_by_a_contract_that_was_mended_is_in_quarantine(
    ingest: LocalIngest, allow: Callable[..., None], deaths: int
) -> None:
    ingest.send(event(), event("maintenance"), event())
    half(ingest)
    allow("normal", "maintenance")
    for _ in range(deaths):
        ingest.new_generation()  # the checkpoint is lost too
        ingest.send(event("maintenance"))
        half(ingest)
    assert ingest.land()
    new = range(3, len(ingest.log))
    assert_each_once(ingest, [0, 2, *new], {1: "wrong_type"})


@pytest.mark.parametrize("is_lost", [False, True], ids=["checkpoint kept", "checkpoint lost"])
def test_a_reading_that_a_stricter_contract_would_refuse_is_in_bronze_only(
    ingest: LocalIngest, allow: Callable[..., None], is_lost: bool
) -> None:
    ingest.send(event(), event("warning"), event())
    half(ingest)
    allow("normal")
    if is_lost:
        ingest.new_generation()
        ingest.send(event("warning"))
        half(ingest)
    assert ingest.land()
    assert_each_once(ingest, [0, 1, 2], {3: "wrong_type"} if is_lost else {})


@pytest.mark.parametrize("is_mended", [True, False], ids=["takes more", "takes less"])
@pytest.mark.parametrize("deaths", [0, 1])
def test_the_parsers_code_alone_was_changed(
    ingest: LocalIngest, monkeypatch: pytest.MonkeyPatch, is_mended: bool, deaths: int
) -> None:
    """No declaration tells of it."""

    def strict(one: KafkaRecord, rules: ParseRules) -> list[Reading] | Refusal:
        return Refusal("not_json", "the old parser's fault") if one.key == b"odd" else parse_record(one, rules)

    before, after = (strict, parse_record) if is_mended else (parse_record, strict)
    odd = event()._replace(key=b"odd")
    monkeypatch.setattr(batches, "parse_record", before)
    ingest.send(event(), odd, event())
    half(ingest)
    monkeypatch.setattr(batches, "parse_record", after)
    for _ in range(deaths):
        ingest.new_generation()
        ingest.send(odd)
        half(ingest)
    assert ingest.land()
    refused = {1: "not_json"} if is_mended else {3: "not_json"} if deaths else {}
    assert_each_once(ingest, [one for one in range(len(ingest.log)) if one not in refused], refused)


def test_a_closed_date_stays_the_reason_where_the_contract_was_mended_too(
    ingest: LocalIngest, allow: Callable[..., None]
) -> None:
    close(ingest.lake, TODAY)
    ingest.send(event(days_ago=5), event("maintenance", days_ago=5), event())
    half(ingest)
    allow("normal", "maintenance")
    ingest.new_generation()
    assert ingest.land()
    assert_each_once(ingest, [2], {0: "closed_date", 1: "wrong_type"})


@pytest.mark.parametrize("words", [("normal", "maintenance"), ("maintenance",)], ids=["mended", "stricter"])
@pytest.mark.parametrize("is_lost", [False, True], ids=["checkpoint kept", "checkpoint lost"])
def test_rows_that_were_erased_between_both_commits_do_not_come_to_quarantine(
    ingest: LocalIngest, allow: Callable[..., None], words: tuple[str, ...], is_lost: bool
) -> None:
    """The row is gone from Bronze, and counted as erased: it must not look as if it never was there."""
    ingest.send(event(device="gone"), event("maintenance", "gone"), event("maintenance"), event())
    half(ingest)
    allow(*words)
    erase(ingest.lake, "gone")
    assert erase_readings(ingest.lake, "gone") == {TODAY: 1}
    if is_lost:
        ingest.new_generation()
        half(ingest)
    assert ingest.land()
    assert_each_once(ingest, [3], {1: "erased_device", 2: "wrong_type"})
    assert b"gone" not in b"".join(row["value"] or b"" for row in ingest.rows(QUARANTINE))


def test_what_no_commit_tells_is_judged_by_the_parser_as_before(
    ingest: LocalIngest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log whose commits do not say what they turned away: they were cleaned away, or made by earlier code."""
    ingest.send(event(), event("maintenance"), event())
    half(ingest)
    with monkeypatch.context() as silent:
        silent.setattr(TurnedAway, "of_json", classmethod(lambda _, said: TurnedAway(untold={TOPIC: {0: 3}})))
        ingest.new_generation()
        ingest.send(event("maintenance"))
        half(ingest)
    assert not read_position(ingest.lake).turned_away.is_told((TOPIC, 0), 2)
    assert ingest.land()
    assert_each_once(ingest, [0, 2], {1: "wrong_type", 3: "wrong_type"})
    ingest.send(event())
    assert ingest.land() and read_position(ingest.lake).turned_away.untold == {}


@given(st.sets(st.integers(5, 400), min_size=1), st.integers(0, 500))
def test_any_set_of_offsets_is_told_as_it_is(offsets: set[int], settled: int) -> None:
    marks = Marks()
    for offset in sorted(offsets):
        marks.add(offset)
    piece = Piece.of_json(marks.as_json("not_json"))
    assert {offset for offset in range(500) if piece.holds(offset)} == offsets
    assert (piece.first, piece.until, marks.count) == (min(offsets), max(offsets) + 1, len(offsets))
    told = TurnedAway(untold={"t": {0: 7}}).then({("t", 0): [piece]}, {"t": {0: settled}})
    again = TurnedAway.of_json(told.as_json() | {"untold": {"t": {"0": 7}} if settled < 7 else {}})
    assert again == told and bool(told.untold) == (settled < 7)
    assert bool(told.pieces) == (settled <= max(offsets))


def test_many_refused_messages_take_little_room_in_a_commit_and_no_erasure_redacts_them() -> None:
    marks = Marks()
    rest = random.Random(3)
    for offset in range(7, 100_007):
        if rest.random() < 0.5:
            marks.add(offset)
    said = json.dumps({"turned_away": [marks.as_json("wrong_type")]})
    assert len(said) < 26_000
    for device in ("d1", "7", "c", "wrong_type", "3f"):
        assert Trace.of(device, ()).redacted(said) == said
